// Copies of 16 bytes into shared memory that are under way while a thread goes on, from
// sm_80 up; on sm_75 they are loads and stores.
#pragma once

#include <cstdint>

namespace reprise::cuda {

__device__ __forceinline__ void CopyAsync(uint4* to, const uint4* from) {
#if __CUDA_ARCH__ >= 800
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
#else
  *to = *from;
#endif
}

__device__ __forceinline__ void CommitCopies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most `kLeft` groups of this thread's copies are under way.
template <int kLeft>
__device__ __forceinline__ void WaitForCopies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
}

}  // namespace reprise::cuda
