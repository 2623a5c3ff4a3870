#include "core/model/cuda/graph_cache.h"

#include "core/model/cuda/cuda_status.h"

namespace reprise::cuda {
namespace {

constexpr size_t kMaxGraphs = 64;

// Ends the capture however `launch` ended.
cudaError_t Capture(cudaStream_t stream, absl::FunctionRef<cudaError_t()> launch,
                    cudaGraphExec_t* graph) {
  RETURN_IF_CUDA_ERROR(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  const cudaError_t launched = launch();
  cudaGraph_t captured = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &captured);
  if (launched != cudaSuccess || ended != cudaSuccess) {
    if (captured != nullptr) cudaGraphDestroy(captured);
    return launched != cudaSuccess ? launched : ended;
  }
  const cudaError_t made = cudaGraphInstantiate(graph, captured, 0);
  cudaGraphDestroy(captured);
  return made;
}

}  // namespace

GraphCache::~GraphCache() {
  for (const auto& [shape, graph] : graphs_) cudaGraphExecDestroy(graph);
}

cudaError_t GraphCache::Run(const PassShape& shape, cudaStream_t stream,
                            absl::FunctionRef<cudaError_t()> launch) {
  auto found = graphs_.find(shape);
  if (found == graphs_.end()) {
    if (graphs_.size() >= kMaxGraphs) return launch();
    cudaGraphExec_t graph = nullptr;
    RETURN_IF_CUDA_ERROR(Capture(stream, launch, &graph));
    found = graphs_.emplace(shape, graph).first;
  }
  return cudaGraphLaunch(found->second, stream);
}

}  // namespace reprise::cuda
