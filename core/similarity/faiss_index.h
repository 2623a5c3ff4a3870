// FaissIndex: a VectorIndex over faiss::IndexFlatIP with ids, saved with a
// checksum of its own so that a damaged file is refused before FAISS reads it.
//
// Threading  as VectorIndex: one writer at a time, readers share.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/similarity/vector_index.h"

namespace reprise {

std::unique_ptr<VectorIndex> CreateFaissIndex(int dimensions);

// kNotFound: no file. kDataLoss: damaged, truncated, or of other dimensions.
absl::StatusOr<std::unique_ptr<VectorIndex>> LoadFaissIndex(const std::string& path,
                                                            int dimensions);

}  // namespace reprise
