// Launches that overlap: on sm_90 and later a kernel may start while the one before it on
// the stream ends (programmatic dependent launch), and reads what does not depend on it,
// such as weights, meanwhile. Earlier devices run one after the other.
#pragma once

#include <cuda_runtime.h>

namespace reprise::cuda {

// Every kernel calls both, in this order: it lets the next one start, and returns once the
// one before has ended and its writes are seen. Nothing is written before.
__device__ __forceinline__ void LetNextStart() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

__device__ __forceinline__ void WaitForPrevious() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

struct LaunchShape {
  dim3 grid;
  unsigned threads;
  size_t shared = 0;  // bytes
};

template <typename Args>
cudaError_t LaunchOverlapping(void (*kernel)(Args), const LaunchShape& shape, const Args& args,
                              cudaStream_t stream) {
  constexpr size_t kUsualShared = 48 << 10;
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (shape.shared > kUsualShared) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute overlap;
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = major >= 9 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, args);
}

}  // namespace reprise::cuda
