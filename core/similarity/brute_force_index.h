// BruteForceIndex: the obvious VectorIndex, the oracle FaissIndex is tested against.
#pragma once

#include <memory>

#include "core/similarity/vector_index.h"

namespace reprise {

std::unique_ptr<VectorIndex> CreateBruteForceIndex(int dimensions);

}  // namespace reprise
