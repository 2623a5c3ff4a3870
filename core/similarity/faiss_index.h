// FaissIndex: a VectorIndex that scans few vectors and walks a FAISS HNSW graph over many.
//
// Deletions are tombstones in the graph; a thread of its own, at the lowest priority, builds
// the graph, extends it and builds it anew past a share of tombstones. Searches go on
// meanwhile over what there was, and find what came since.
// Threading  as VectorIndex. Contains, Ids and size wait for no search and no insertion; Add
//            and Remove may wait a few milliseconds for one of each.
// Memory     4 bytes a dimension and about 140 a vector; twice that while a graph is built.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/similarity/vector_index.h"

namespace reprise {

struct FaissIndexOptions {
  int64_t graph_from = 10000;  // live vectors; a scan of fewer takes under a millisecond
  // Of tombstones in the graph: each is a step of a walk that finds nothing.
  int max_dead_percent = 20;
  // Vectors beside the graph, which are scanned, before it takes them in.
  int64_t max_beside = 1024;
  // Candidates a walk weighs. At 100,000 vectors in 1,000 clusters 64 already find all of the
  // ten nearest (tests/bench/similarity_bench); the rest is for tombstones and harder data.
  int search_width = 160;
};

// What a FaissIndex is made of.
struct FaissIndexState {
  int64_t in_graph = 0;  // tombstones included; 0: all is scanned
  int64_t beside = 0;    // vectors that no graph covers
  int64_t dead = 0;
};

class FaissIndex : public VectorIndex {
 public:
  virtual FaissIndexState State() const = 0;

  // Until the builder has nothing to do.
  virtual void AwaitBuilt() const = 0;
};

std::unique_ptr<FaissIndex> CreateFaissIndex(int dimensions, const FaissIndexOptions& options = {});

// kNotFound: no file. kDataLoss: damaged, truncated, or of other dimensions. kUnavailable: it
// cannot be read.
absl::StatusOr<std::unique_ptr<FaissIndex>> LoadFaissIndex(const std::string& path, int dimensions,
                                                           const FaissIndexOptions& options = {});

}  // namespace reprise
