// Products of few rows, bound by reading the weights: a block computes one tile of 16
// features for up to 32 rows, and each of its warps one slice of the reduction. Fragments
// come straight from memory, 16 bytes a thread; rows hit the L1 cache.
#include "core/model/cuda/epilogue.cuh"
#include "core/model/cuda/launch.cuh"
#include "core/model/cuda/product.cuh"

namespace reprise::cuda {
namespace {

constexpr int kAhead = 4;  // steps whose weights are under way at once

// The weights of up to kAhead steps of a slice.
struct Ahead {
  uint4 words[kAhead][2];

  // `left` steps are left of the slice; past them weights are zero.
  __device__ __forceinline__ void Load(const uint4* a, int left) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      words[i][0] = words[i][1] = make_uint4(0, 0, 0, 0);
      if (i >= left) continue;
      words[i][0] = LoadStreaming(a + i * 64);
      words[i][1] = LoadStreaming(a + i * 64 + 32);
    }
  }
};

constexpr int kLine = 128;  // bytes

// Asks for the first weights of a slice. They do not depend on the kernel before this one,
// so their way from memory overlaps with its end.
__device__ __forceinline__ void PrefetchWeights(const void* a, int steps) {
  const auto* first = static_cast<const char*>(a);
  const int lines = min(steps, 2 * kAhead) * 64 * 16 / kLine;
  for (int line = threadIdx.x % 32; line < lines; line += 32) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(first + line * kLine));
  }
}

// c += a slice of x W^T.
template <typename T, int kRowTiles>
__device__ __forceinline__ void MultiplySlice(const uint4* a, const T* x, int steps, int depth,
                                              float (&c)[kRowTiles][4]) {
  constexpr int kTogether = kRowTiles <= 2 ? kAhead : 2;  // steps whose rows are read at once
  Ahead next;
  next.Load(a, steps);
  for (int left = steps; left > 0; left -= kAhead) {
    const Ahead now = next;
    a += kAhead * 64;
    next.Load(a, left - kAhead);
#pragma unroll
    for (int first = 0; first < kAhead; first += kTogether) {
      uint4 b[kTogether][kRowTiles];
#pragma unroll
      for (int i = 0; i < kTogether * kRowTiles; ++i) {
        // Past the slice a step is read again and weighs zero times zero.
        const int step = first + i / kRowTiles, j = i % kRowTiles;
        const T* row = x + static_cast<int64_t>(j) * 8 * depth + min(step, left - 1) * kStepDepth;
        const uint4 word = LoadAhead(reinterpret_cast<const uint4*>(row));
        b[i / kRowTiles][j] = step < left ? word : make_uint4(0, 0, 0, 0);
      }
#pragma unroll
      for (int i = 0; i < kTogether * kRowTiles; ++i) {
        const int step = first + i / kRowTiles, j = i % kRowTiles;
        const uint4 word = b[i / kRowTiles][j];
        Mma(c[j], ToFragment(now.words[step][0]), word.x, word.y, T());
        Mma(c[j], ToFragment(now.words[step][1]), word.z, word.w, T());
      }
    }
    x += kAhead * kStepDepth;
  }
}

template <typename T, int kRowTiles, Epilogue kEpilogue>
__global__ void __launch_bounds__(32 * kMaxSlices, 1) ThinProduct(const ProductArgs args) {
  constexpr int kRows = 8 * kRowTiles;
  extern __shared__ float sums[];  // [slice][row][feature]
  LetNextStart();
  const int lane = threadIdx.x % 32, slice = threadIdx.x / 32, slices = blockDim.x / 32;
  const int steps = args.weights.steps, depth = steps * kStepDepth;
  const int begin = slice * args.steps_per_slice;
  const int first_row = blockIdx.y * kRows;
  const int own_steps = min(args.steps_per_slice, steps - begin);
  const uint4* a = static_cast<const uint4*>(args.weights.data) +
                   (static_cast<int64_t>(blockIdx.x) * steps + begin) * 64;
  PrefetchWeights(a, own_steps);
  WaitForPrevious();
  const T* x = static_cast<const T*>(args.x) + static_cast<int64_t>(first_row + lane / 4) * depth +
               begin * kStepDepth + lane % 4 * 8;
  float c[kRowTiles][4] = {};
  MultiplySlice(a + lane, x, own_steps, depth, c);
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = i * 8 + lane % 4 * 2 + e % 2, feature = lane / 4 + e / 2 * 8;
      sums[(slice * kRows + row) * kTileFeatures + feature] = c[i][e];
    }
  }
  __syncthreads();
  const auto total = [&](int row, int feature) {
    float sum = 0;
    for (int s = 0; s < slices; ++s) sum += sums[(s * kRows + row) * kTileFeatures + feature];
    return sum;
  };
  constexpr int kColumns = IsGated(kEpilogue) ? 8 : 16;
  for (int i = threadIdx.x; i < kRows * kColumns; i += blockDim.x) {
    const int row = i / kColumns, feature = i % kColumns;
    const int at = blockIdx.x * kTileFeatures + feature;
    const EpilogueInput input = ReadInput<kEpilogue>(args, first_row + row, at);
    const float up = IsGated(kEpilogue) ? total(row, feature + 8) : 0.0f;
    Finish<T, kEpilogue>(args, first_row + row, at, total(row, feature), up, input);
  }
}

template <typename T, int kRowTiles>
cudaError_t Launch(const ProductArgs& args, cudaStream_t stream) {
  const int slices = (args.weights.steps + args.steps_per_slice - 1) / args.steps_per_slice;
  LaunchShape shape;
  shape.grid = dim3(args.weights.tiles, (args.rows + 8 * kRowTiles - 1) / (8 * kRowTiles));
  shape.threads = 32 * slices;
  shape.shared = sizeof(float) * slices * 8 * kRowTiles * kTileFeatures;
  return WithEpilogue(args.epilogue, [&](auto epilogue) {
    return LaunchOverlapping(ThinProduct<T, kRowTiles, decltype(epilogue)::value>, shape, args,
                             stream);
  });
}

}  // namespace

cudaError_t LaunchThinProduct(const ProductArgs& args, cudaStream_t stream) {
  return WithHalf(args.weights.type, [&](auto half) {
    using T = decltype(half);
    if (args.rows <= 8) return Launch<T, 1>(args, stream);
    if (args.rows <= 16) return Launch<T, 2>(args, stream);
    return Launch<T, 4>(args, stream);
  });
}

}  // namespace reprise::cuda
