// Fragments of mma.sync.m16n8k16 with fp32 accumulation, and the halves they hold.
//
// A thread (g = lane / 4, t = lane % 4) holds A as {row g, row g + 8} x {k 2t, 2t + 1} and
// the same rows at k + 8; B as column g at the same k; C as {row g, row g + 8} x {columns
// 2t, 2t + 1}. Both operands name k as they like as long as they agree: here k 2t, 2t + 1,
// 2t + 8, 2t + 9 are 4t … 4t + 3 of memory, so that a thread's part is contiguous.
// sm_75 has half the depth, so there one product is two instructions.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "core/model/cuda/kernel_args.h"

namespace reprise::cuda {

__device__ __forceinline__ __half ToHalf(float value, __half) { return __float2half_rn(value); }
__device__ __forceinline__ __nv_bfloat16 ToHalf(float value, __nv_bfloat16) {
  return __float2bfloat16_rn(value);
}
template <typename T>
__device__ __forceinline__ T To(float value) {
  return ToHalf(value, T());
}
__device__ __forceinline__ float ToFloat(__half value) { return __half2float(value); }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

// The first in the lower half of the word.
template <typename T>
__device__ __forceinline__ uint32_t PackTwo(float low, float high) {
  const T a = To<T>(low), b = To<T>(high);
  return uint32_t{reinterpret_cast<const uint16_t&>(a)} |
         uint32_t{reinterpret_cast<const uint16_t&>(b)} << 16;
}

struct FragmentA {
  uint32_t low, low8, high, high8;  // k of the first word of rows g, g + 8, then of the second
};

__device__ __forceinline__ FragmentA ToFragment(uint4 word) {
  return {word.x, word.y, word.z, word.w};
}

// c += a b.
__device__ __forceinline__ void Mma(float (&c)[4], const FragmentA& a, uint32_t b0, uint32_t b1,
                                    __half) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.low), "r"(a.low8), "r"(a.high), "r"(a.high8), "r"(b0), "r"(b1));
#else
  const uint32_t rows[2][2] = {{a.low, a.low8}, {a.high, a.high8}};
  const uint32_t columns[2] = {b0, b1};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(rows[i][0]), "r"(rows[i][1]), "r"(columns[i]));
  }
#endif
}

// Devices below sm_80 have no such instruction; the runner refuses bf16 there.
__device__ __forceinline__ void Mma(float (&c)[4], const FragmentA& a, uint32_t b0, uint32_t b1,
                                    __nv_bfloat16) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.low), "r"(a.low8), "r"(a.high), "r"(a.high8), "r"(b0), "r"(b1));
#else
  __trap();
#endif
}

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A read of memory that no kernel writes meanwhile and no one needs again soon.
__device__ __forceinline__ uint4 LoadStreaming(const uint4* from) {
  uint4 word;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "l"(from));
  return word;
}

// Reads that are issued in the order they are written in, before what follows: the compiler
// would spread them out to save registers, and each would wait for the one before.
__device__ __forceinline__ uint4 LoadAhead(const uint4* from) {
  uint4 word;
  asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "l"(from));
  return word;
}
__device__ __forceinline__ uint2 LoadAhead(const uint2* from) {
  uint2 word;
  asm volatile("ld.global.v2.u32 {%0,%1}, [%2];" : "=r"(word.x), "=r"(word.y) : "l"(from));
  return word;
}

// Calls `function` with a value of the type.
template <typename Function>
auto WithHalf(HalfType type, const Function& function) {
  return type == HalfType::kFp16 ? function(__half()) : function(__nv_bfloat16());
}

}  // namespace reprise::cuda
