// CUDA's errors as absl::Status.
#pragma once

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace reprise::cuda {

// kResourceExhausted: out of device memory; kInternal: all else. `what` was being done.
absl::Status ToStatus(cudaError_t error, absl::string_view what);

}  // namespace reprise::cuda

// Returns the cudaError_t of `expr` from the enclosing function unless it is cudaSuccess.
#define RETURN_IF_CUDA_ERROR(expr)                                         \
  do {                                                                     \
    if (cudaError_t error_ = (expr); error_ != cudaSuccess) return error_; \
  } while (false)
