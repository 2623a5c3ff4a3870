// The likeliest token of each row, and the slots of a KV block.
#include "core/model/cuda/launch.cuh"
#include "core/model/cuda/mma.cuh"

namespace reprise::cuda {
namespace {

constexpr int kArgMaxThreads = 1024;
constexpr int kCopyThreads = 256;
constexpr float kMaxFloat = 3.402823466e38f;
constexpr int kNoId = 0x7fffffff;

struct Best {
  float score;
  int32_t id;
};

// Equal scores: the lower id.
__device__ __forceinline__ Best Better(const Best& a, const Best& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id) ? a : b;
}

// As SampleToken (core/model/sampling.h) sees a logit: a finite number.
__device__ __forceinline__ float Finite(float logit) {
  return isnan(logit) ? -kMaxFloat : fminf(fmaxf(logit, -kMaxFloat), kMaxFloat);
}

__global__ void ArgMax(const ArgMaxArgs args) {
  __shared__ Best bests[kArgMaxThreads];
  LetNextStart();
  WaitForPrevious();
  const float* logits = args.logits + static_cast<int64_t>(blockIdx.x) * args.vocabulary;
  int32_t banned[kMaxBanned];
#pragma unroll
  for (int i = 0; i < kMaxBanned; ++i) banned[i] = args.banned[blockIdx.x * kMaxBanned + i];
  Best best{-INFINITY, kNoId};
#pragma unroll 8
  for (int id = threadIdx.x; id < args.vocabulary; id += kArgMaxThreads) {
    float score = Finite(logits[id]);
#pragma unroll
    for (int i = 0; i < kMaxBanned; ++i) {
      if (banned[i] == id) score = -INFINITY;
    }
    best = Better(best, {score, id});
  }
  bests[threadIdx.x] = best;
  __syncthreads();
  for (int distance = kArgMaxThreads / 2; distance > 0; distance /= 2) {
    if (threadIdx.x < distance) {
      bests[threadIdx.x] = Better(bests[threadIdx.x], bests[threadIdx.x + distance]);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) args.ids[blockIdx.x] = bests[0].id;
}

// A block copies one head; keys lie [slot][dim], values [dim][slot].
__global__ void CopySlots(const CopySlotsArgs args) {
  LetNextStart();
  WaitForPrevious();
  const int size = 16 * args.padded_dim;
  const auto* from =
      static_cast<const uint16_t*>(args.from) + static_cast<int64_t>(blockIdx.x) * size;
  auto* to = static_cast<uint16_t*>(args.to) + static_cast<int64_t>(blockIdx.x) * size;
  const bool value = blockIdx.x / args.kv_heads % 2 == 1;
  for (int i = threadIdx.x; i < size; i += kCopyThreads) {
    const int slot = value ? i % 16 : i / args.padded_dim;
    to[i] = slot < args.tokens ? from[i] : uint16_t{0};
  }
}

}  // namespace

cudaError_t LaunchArgMax(const ArgMaxArgs& args, cudaStream_t stream) {
  const LaunchShape shape{dim3(args.rows), kArgMaxThreads};
  return LaunchOverlapping(ArgMax, shape, args, stream);
}

cudaError_t LaunchCopySlots(const CopySlotsArgs& args, cudaStream_t stream) {
  const LaunchShape shape{dim3(args.heads), kCopyThreads};
  return LaunchOverlapping(CopySlots, shape, args, stream);
}

}  // namespace reprise::cuda
