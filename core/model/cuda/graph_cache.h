// GraphCache: launches of a pass captured once for each shape and replayed, since a pass
// of a small model is bound by the launches.
//
// Threading  one thread. The graphs hold the pointers they were captured with.
#pragma once

#include <cuda_runtime_api.h>

#include <map>

#include "absl/functional/function_ref.h"
#include "core/model/cuda/pass_plan.h"

namespace reprise::cuda {

class GraphCache {
 public:
  GraphCache() = default;
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;
  ~GraphCache();

  // Enqueues what `launch` does on `stream`: as a graph, or directly once there are as many
  // graphs as are kept.
  cudaError_t Run(const PassShape& shape, cudaStream_t stream,
                  absl::FunctionRef<cudaError_t()> launch);

  size_t size() const { return graphs_.size(); }

 private:
  std::map<PassShape, cudaGraphExec_t> graphs_;
};

}  // namespace reprise::cuda
