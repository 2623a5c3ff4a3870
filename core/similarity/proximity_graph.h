// ProximityGraph: a hierarchical graph (FAISS's HNSW) over the first slots of a table of
// unit vectors, which the caller keeps.
//
// Source     Malkov and Yashunin 2016, arXiv 1603.09320.
// Threading  searches may run at the same time; an insertion runs alone.
// Errors     kInternal: FAISS failed; the graph must not be used after a failed insertion.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/bytes.h"

namespace reprise {

class ProximityGraph {
 public:
  // A slot and its similarity to what was asked for.
  struct Hit {
    int64_t slot = 0;
    float similarity = 0.0f;
  };

  ProximityGraph();
  ~ProximityGraph();
  ProximityGraph(ProximityGraph&&) noexcept;
  ProximityGraph& operator=(ProximityGraph&&) noexcept;

  // The graph that Serialize wrote, of `size` vectors. kDataLoss: it names a slot or a level
  // that is not there, or is not of that size.
  static absl::StatusOr<ProximityGraph> Parse(ByteView bytes, int64_t size);
  std::string Serialize() const;

  int64_t size() const;  // slots it covers: [0, size)

  // Adds slot size() of `vectors`, [more than size(), dimensions].
  absl::Status Insert(const float* vectors, int dimensions);

  // About the `width` nearest of `query`, most similar first. The wider, the fewer are missed.
  absl::StatusOr<std::vector<Hit>> Search(const float* vectors, absl::Span<const float> query,
                                          int width) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace reprise
