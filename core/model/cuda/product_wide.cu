// Products of many rows, bound by the tensor cores: a block computes a tile of features
// and rows from stages of a step or two in shared memory, copied ahead (sm_80 and later).
// Each warp keeps the slice at hand and the sum of the slices before it.
#include "core/model/cuda/async_copy.cuh"
#include "core/model/cuda/epilogue.cuh"
#include "core/model/cuda/launch.cuh"
#include "core/model/cuda/product.cuh"

namespace reprise::cuda {
namespace {

// A warp computes kTiles tiles of features for kRowTiles tiles of 8 rows.
template <int kTiles_, int kRowTiles_, int kFeatureWarps_, int kRowWarps_, int kStageSteps_>
struct Shape {
  static constexpr int kTiles = kTiles_, kRowTiles = kRowTiles_;
  static constexpr int kFeatureWarps = kFeatureWarps_, kRowWarps = kRowWarps_;
  static constexpr int kStageSteps = kStageSteps_, kStages = 4;
  static constexpr int kThreads = 32 * kFeatureWarps * kRowWarps;
  static constexpr int kBlockTiles = kTiles * kFeatureWarps;
  static constexpr int kBlockRows = 8 * kRowTiles * kRowWarps;
  static constexpr int kWeightWords = kBlockTiles * 64;  // of 16 bytes, in a step
  static constexpr int kStepWords = kWeightWords + kBlockRows * 4;
  static constexpr int kStageWords = kStepWords * kStageSteps;
  static constexpr int kSharedBytes = kStageWords * kStages * 16;
};
// Both take the 64 KiB of shared memory that a block of sm_75 may have.
using Small = Shape<2, 4, 2, 2, 2>;  // 64 features, 64 rows
using Large = Shape<2, 8, 4, 2, 1>;  // 128 features, 128 rows

// What a thread copies of each step: 16-byte words at fixed strides.
template <typename S>
struct Sources {
  static constexpr int kWeightCopies = S::kWeightWords / S::kThreads;
  static constexpr int kRowCopies = S::kBlockRows * 4 / S::kThreads;
  static_assert(S::kThreads % 64 == 0 && kWeightCopies * S::kThreads == S::kWeightWords &&
                kRowCopies * S::kThreads == S::kBlockRows * 4);

  // `first_tile` and `first_row` are the block's.
  __device__ __forceinline__ Sources(const ProductArgs& args, int first_tile, int first_row)
      : steps(args.weights.steps) {
    const int thread = threadIdx.x;
    const int64_t tile = first_tile + thread / 64, row = first_row + thread / 4;
    weights = static_cast<const uint4*>(args.weights.data) + tile * steps * 64 + thread % 64;
    x = static_cast<const uint4*>(args.x) + row * steps * 4 + thread % 4;
  }

  __device__ __forceinline__ void CopyStep(int step, uint4* to) const {
    to += threadIdx.x;
#pragma unroll
    for (int i = 0; i < kWeightCopies; ++i) {
      CopyAsync(to + i * S::kThreads, weights + (i * S::kThreads * steps + step * 64));
    }
#pragma unroll
    for (int i = 0; i < kRowCopies; ++i) {
      CopyAsync(to + S::kWeightWords + i * S::kThreads, x + (i * S::kThreads * steps + step * 4));
    }
  }

  // Past the last step there is nothing to copy.
  __device__ __forceinline__ void CopyStage(int index, uint4* stages) const {
    uint4* stage = stages + index % S::kStages * S::kStageWords;
#pragma unroll
    for (int i = 0; i < S::kStageSteps; ++i) {
      const int step = index * S::kStageSteps + i;
      if (step < steps) CopyStep(step, stage + i * S::kStepWords);
    }
    CommitCopies();
  }

  const uint4 *weights, *x;  // of this thread's first copy
  int steps;
};

template <typename T, typename S>
__device__ __forceinline__ void MultiplyStep(const uint4* stage, int feature_warp, int row_warp,
                                             float (&c)[S::kTiles][S::kRowTiles][4]) {
  const int lane = threadIdx.x % 32;
  const uint4* a = stage + feature_warp * S::kTiles * 64 + lane;
  const uint4* b = stage + S::kWeightWords + row_warp * S::kRowTiles * 32 + lane;
  FragmentA first[S::kTiles], second[S::kTiles];
#pragma unroll
  for (int i = 0; i < S::kTiles; ++i) {
    first[i] = ToFragment(a[i * 64]);
    second[i] = ToFragment(a[i * 64 + 32]);
  }
#pragma unroll
  for (int j = 0; j < S::kRowTiles; ++j) {
    const uint4 word = b[j * 32];
#pragma unroll
    for (int i = 0; i < S::kTiles; ++i) Mma(c[i][j], first[i], word.x, word.y, T());
#pragma unroll
    for (int i = 0; i < S::kTiles; ++i) Mma(c[i][j], second[i], word.z, word.w, T());
  }
}

template <typename T, typename S, Epilogue kEpilogue>
__device__ __forceinline__ void FinishAll(const ProductArgs& args, int first_tile, int first_row,
                                          const float (&sums)[S::kTiles][S::kRowTiles][4]) {
  constexpr int kHalves = IsGated(kEpilogue) ? 1 : 2;  // features g and g + 8, or a gated pair
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < S::kTiles; ++i) {
    const int feature = (first_tile + i) * kTileFeatures + lane / 4;
    EpilogueInput inputs[S::kRowTiles][2][kHalves];
#pragma unroll
    for (int n = 0; n < S::kRowTiles * 2 * kHalves; ++n) {
      const int j = n / 2 / kHalves, e = n / kHalves % 2, h = n % kHalves;
      const int row = first_row + j * 8 + lane % 4 * 2 + e;
      inputs[j][e][h] = ReadInput<kEpilogue>(args, row, feature + 8 * h);
    }
#pragma unroll
    for (int n = 0; n < S::kRowTiles * 2 * kHalves; ++n) {
      const int j = n / 2 / kHalves, e = n / kHalves % 2, h = n % kHalves;
      const int row = first_row + j * 8 + lane % 4 * 2 + e;
      const float up = IsGated(kEpilogue) ? sums[i][j][e + 2] : 0.0f;
      Finish<T, kEpilogue>(args, row, feature + 8 * h, sums[i][j][e + 2 * h], up, inputs[j][e][h]);
    }
  }
}

template <typename S>
__device__ __forceinline__ void EndSlice(float (&c)[S::kTiles][S::kRowTiles][4],
                                         float (&sums)[S::kTiles][S::kRowTiles][4]) {
#pragma unroll
  for (int i = 0; i < S::kTiles * S::kRowTiles * 4; ++i) {
    float& value = c[i / 4 / S::kRowTiles][i / 4 % S::kRowTiles][i % 4];
    sums[i / 4 / S::kRowTiles][i / 4 % S::kRowTiles][i % 4] += value;
    value = 0;
  }
}

template <typename T, typename S, Epilogue kEpilogue>
__global__ void __launch_bounds__(S::kThreads) WideProduct(const ProductArgs args) {
  extern __shared__ uint4 stages[];  // [kStages][kStageSteps][kStepWords]
  LetNextStart();
  const int warp = threadIdx.x / 32;
  const int feature_warp = warp % S::kFeatureWarps, row_warp = warp / S::kFeatureWarps;
  const int steps = args.weights.steps;
  const int first_tile = blockIdx.x * S::kBlockTiles, first_row = blockIdx.y * S::kBlockRows;
  const Sources<S> sources(args, first_tile, first_row);
  WaitForPrevious();
#pragma unroll
  for (int i = 0; i < S::kStages - 1; ++i) sources.CopyStage(i, stages);
  float c[S::kTiles][S::kRowTiles][4] = {}, sums[S::kTiles][S::kRowTiles][4] = {};
  int left = args.steps_per_slice;
  for (int index = 0; index * S::kStageSteps < steps; ++index) {
    WaitForCopies<S::kStages - 2>();
    __syncthreads();
    sources.CopyStage(index + S::kStages - 1, stages);
    const uint4* stage = stages + index % S::kStages * S::kStageWords;
#pragma unroll
    for (int i = 0; i < S::kStageSteps; ++i) {
      const int step = index * S::kStageSteps + i;
      if (step >= steps) break;
      MultiplyStep<T, S>(stage + i * S::kStepWords, feature_warp, row_warp, c);
      if (--left > 0 && step + 1 < steps) continue;
      left = args.steps_per_slice;
      EndSlice<S>(c, sums);
    }
  }
  FinishAll<T, S, kEpilogue>(args, first_tile + feature_warp * S::kTiles,
                             first_row + row_warp * S::kRowTiles * 8, sums);
}

template <typename T, typename S>
cudaError_t Launch(const ProductArgs& args, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid =
      dim3(args.weights.tiles / S::kBlockTiles, (args.rows + S::kBlockRows - 1) / S::kBlockRows);
  shape.threads = S::kThreads;
  shape.shared = S::kSharedBytes;
  return WithEpilogue(args.epilogue, [&](auto epilogue) {
    return LaunchOverlapping(WideProduct<T, S, decltype(epilogue)::value>, shape, args, stream);
  });
}

constexpr int kManyBlocks = 100;  // of the large shape: about one for each multiprocessor

}  // namespace

cudaError_t LaunchWideProduct(const ProductArgs& args, cudaStream_t stream) {
  const int large_blocks = args.weights.tiles / Large::kBlockTiles *
                           ((args.rows + Large::kBlockRows - 1) / Large::kBlockRows);
  return WithHalf(args.weights.type, [&](auto half) {
    using T = decltype(half);
    if (large_blocks >= kManyBlocks) return Launch<T, Large>(args, stream);
    return Launch<T, Small>(args, stream);
  });
}

}  // namespace reprise::cuda
