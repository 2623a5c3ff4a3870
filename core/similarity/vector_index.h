// VectorIndex finds the nearest unit vectors by inner product.
//
// Real: core/similarity/faiss_index.h. Oracle: core/similarity/brute_force_index.h.
// Threading  all methods are thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace reprise {

struct Neighbor {
  uint64_t id = 0;
  float similarity = 0.0f;  // inner product of unit vectors: cosine, [-1, 1]
};

class VectorIndex {
 public:
  virtual ~VectorIndex() = default;

  // Adds or replaces. kInvalidArgument: wrong length, NaN, or not of unit length.
  virtual absl::Status Add(uint64_t id, absl::Span<const float> vector) = 0;

  // Unknown ids are no error.
  virtual absl::Status Remove(uint64_t id) = 0;

  // The `count` nearest, most similar first; equal similarities by lower id. Over many
  // vectors an implementation may miss one of a hundred.
  virtual absl::StatusOr<std::vector<Neighbor>> Search(absl::Span<const float> query,
                                                       int count) const = 0;

  virtual bool Contains(uint64_t id) const = 0;

  // Whether `id` is there with exactly this vector.
  virtual bool Holds(uint64_t id, absl::Span<const float> vector) const = 0;
  virtual std::vector<uint64_t> Ids() const = 0;  // ascending
  virtual int64_t size() const = 0;
  virtual int dimensions() const = 0;

  // Writes the index to `path` (temporary file, sync, rename).
  virtual absl::Status Save(const std::string& path) const = 0;
};

}  // namespace reprise
