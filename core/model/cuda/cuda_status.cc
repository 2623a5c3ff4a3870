#include "core/model/cuda/cuda_status.h"

#include "absl/strings/str_cat.h"

namespace reprise::cuda {

absl::Status ToStatus(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message = absl::StrCat("CUDA, ", what, ": ", cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it would be reported again
    return absl::ResourceExhaustedError(message);
  }
  return absl::InternalError(message);
}

}  // namespace reprise::cuda
