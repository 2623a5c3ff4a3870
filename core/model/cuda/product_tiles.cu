// Products of many rows on sm_90: a warp copies stages of 64 of the depth into shared memory
// with the copy engine, and each warpgroup computes 64 features for all rows of the block with
// wgmma, weights in registers as mma.sync reads them. Each warpgroup keeps the slice at hand
// and the sum of the slices before it. One wgmma adds up the same 16 products as one
// mma.sync.m16n8k16 and gives the same bits, which tests and the start-up probe hold it to.
#include "core/model/cuda/epilogue.cuh"
#include "core/model/cuda/launch.cuh"
#include "core/model/cuda/product.cuh"
#include "core/model/cuda/tiled_rows.cuh"
#include "core/model/cuda/wgmma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define REPRISE_HAS_WGMMA 1
#endif

namespace reprise::cuda {
namespace {

constexpr int kStageSteps = 2;
constexpr int kWarpgroup = 128;
constexpr int kStepWords = 64;  // of 16 bytes, of a tile of weights

template <int kGroups_, int kRows_, int kStages_>
struct Shape {
  static constexpr int kGroups = kGroups_, kRows = kRows_, kStages = kStages_;
  static constexpr int kThreads = kWarpgroup * kGroups + 32;
  static constexpr int kResident = kGroups == 1 ? 2 : 1;
  static constexpr int kBlockTiles = 4 * kGroups;  // of 16 features
  static constexpr int kRowTiles = kRows / 8;
  static constexpr int kWeightWords = kBlockTiles * kStageSteps * kStepWords;
  static constexpr int kRowBytes = kRows * kAtomDepth * 2;
  static constexpr int kStageBytes = kWeightWords * 16 + kRowBytes;
  static constexpr int kAlignment = 1024;
  static constexpr int kSharedBytes = kStageBytes * kStages + kAlignment;
};

template <typename S>
struct Pipeline {
  uint64_t full[S::kStages], empty[S::kStages];
};

#ifdef REPRISE_HAS_WGMMA

// What the copying warp knows.
template <typename S>
struct Copier {
  const ProductArgs& args;
  Pipeline<S>& pipeline;
  char* stages;
  int first_tile, first_row, atoms;

  __device__ __forceinline__ int StepsOf(int stage) const {
    return min(kStageSteps, args.weights.steps - stage * kStageSteps);
  }

  // One lane announces the stage, then all copy its weights, a tile each.
  __device__ __forceinline__ void CopyWeights(int stage) const {
    const int slot = stage % S::kStages, lane = threadIdx.x % 32;
    const uint32_t bytes = StepsOf(stage) * kStepWords * 16;
    if (lane == 0) {
      ArriveExpecting(&pipeline.full[slot], bytes * S::kBlockTiles + S::kRowBytes);
    }
    __syncwarp();
    if (lane >= S::kBlockTiles) return;
    const auto* from = static_cast<const uint4*>(args.weights.data) +
                       (static_cast<int64_t>(first_tile + lane) * args.weights.steps +
                        static_cast<int64_t>(stage) * kStageSteps) *
                           kStepWords;
    char* to = stages + slot * S::kStageBytes + S::kRowBytes;
    CopyBulk(to + lane * kStageSteps * kStepWords * 16, from, bytes, &pipeline.full[slot]);
  }

  __device__ __forceinline__ void CopyRows(int stage) const {
    const int slot = stage % S::kStages;
    if (threadIdx.x % 32 != 0) return;
    const int64_t atom = static_cast<int64_t>(stage) * atoms + first_row / kAtomRows;
    const char* from = static_cast<const char*>(args.x) + atom * kAtomRows * kAtomDepth * 2;
    CopyBulk(stages + slot * S::kStageBytes, from, S::kRowBytes, &pipeline.full[slot]);
  }

  __device__ __forceinline__ void Run(int count) const {
    const int ahead = min(count, S::kStages);
    for (int i = 0; i < ahead; ++i) CopyWeights(i);
    WaitForPrevious();
    for (int i = 0; i < ahead; ++i) CopyRows(i);
    for (int i = ahead; i < count; ++i) {
      WaitFor(&pipeline.empty[i % S::kStages], (i / S::kStages - 1) % 2);
      CopyWeights(i);
      CopyRows(i);
    }
  }
};

// A thread has row 2 t + e of each tile of 8 and features g and g + 8; with its neighbour
// (g ^ 1) it trades one row for the other's feature, so that both write pairs.
struct Pair {
  float first, second;
};
__device__ __forceinline__ Pair Trade(float even_row, float odd_row, bool odd) {
  const float other = __shfl_xor_sync(0xffffffffu, odd ? even_row : odd_row, 4);
  return odd ? Pair{other, odd_row} : Pair{even_row, other};
}

__device__ __forceinline__ Pair ReadPair(const float* from) {
  const float2 pair = *reinterpret_cast<const float2*>(from);
  return {pair.x, pair.y};
}
__device__ __forceinline__ Pair operator+(const Pair& a, const Pair& b) {
  return {a.first + b.first, a.second + b.second};
}

// Where a thread's results go: pairs of features at `feature` and 8 further, for one row of
// each tile of 8.
struct Place {
  int feature, row;
  bool odd;

  __device__ __forceinline__ Place(int tile, int first_row) {
    const int lane = threadIdx.x % 32, g = lane / 4;
    odd = g % 2 == 1;
    feature = tile * kTileFeatures + g / 2 * 2;
    row = first_row + lane % 4 * 2 + (odd ? 1 : 0);
  }
};

// y = or += sums + bias. What is added to is read before the first write.
template <typename S, bool kAdds>
__device__ __forceinline__ void StoreSums(const ProductArgs& args, const Place& place,
                                          const float (&sums)[S::kRowTiles][4]) {
  Pair bias[2] = {}, old[S::kRowTiles][2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int feature = place.feature + 8 * h;
    const bool inside = feature < args.weights.features;
    if (args.bias != nullptr) bias[h] = ReadPair(args.bias + feature);
    const float* from = args.y + static_cast<int64_t>(place.row) * args.stride + feature;
#pragma unroll
    for (int j = 0; kAdds && j < S::kRowTiles; ++j) {
      const bool reads = inside && place.row + 8 * j < args.rows;
      old[j][h] = reads ? ReadPair(from + static_cast<int64_t>(8 * j) * args.stride) : Pair{};
    }
  }
#pragma unroll
  for (int n = 0; n < 2 * S::kRowTiles; ++n) {
    const int j = n / 2, h = n % 2, row = place.row + 8 * j, feature = place.feature + 8 * h;
    Pair sum = Trade(sums[j][2 * h], sums[j][2 * h + 1], place.odd) + bias[h];
    if (row >= args.rows || feature >= args.weights.features) continue;
    if (kAdds) sum = old[j][h] + sum;
    float* to = args.y + static_cast<int64_t>(row) * args.stride + feature;
    *reinterpret_cast<float2*>(to) = make_float2(sum.first, sum.second);
  }
}

template <typename S>
__device__ __forceinline__ void WaitForConsumers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kWarpgroup * S::kGroups) : "memory");
}

// Activations go to shared memory in the order they have outside, and from there in one piece
// for each 64 features. Rows and features that pad are written too: the buffer has them.
template <typename T, typename S, Epilogue kEpilogue>
__device__ __forceinline__ void StoreHalves(const ProductArgs& args, char* stages,
                                            const float (&sums)[S::kRowTiles][4]) {
  constexpr int kHalves = IsGated(kEpilogue) ? 1 : 2;
  constexpr int kColumns = S::kBlockTiles * 8 * kHalves;
  const Place place(threadIdx.x / 32, 0);  // in the block
  Pair bias[2] = {};
  if (args.bias != nullptr) {
    const float* from = args.bias + blockIdx.x * S::kBlockTiles * kTileFeatures + place.feature;
    bias[0] = ReadPair(from);
    bias[1] = ReadPair(from + 8);
  }
  WaitForConsumers<S>();  // the other warpgroup has read the last stages
  auto* staged = reinterpret_cast<uint16_t*>(stages);
#pragma unroll
  for (int j = 0; j < S::kRowTiles; ++j) {
    const Pair low = Trade(sums[j][0], sums[j][1], place.odd) + bias[0];
    const Pair high = Trade(sums[j][2], sums[j][3], place.odd) + bias[1];
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      const Pair& sum = h == 0 ? low : high;
      const uint32_t word = PackTwo<T>(Activate<kEpilogue>(sum.first, high.first),
                                       Activate<kEpilogue>(sum.second, high.second));
      const int column = OutputColumn<kEpilogue>(place.feature + 8 * h);
      const int64_t at = TiledIndex(place.row + 8 * j, column, S::kRows / kAtomRows);
      *reinterpret_cast<uint32_t*>(staged + at) = word;
    }
  }
  FenceForCopies();
  WaitForConsumers<S>();
  if (threadIdx.x != 0) return;
  for (int column = 0; column < kColumns; column += kAtomDepth) {
    const int to = blockIdx.x * kColumns + column;
    if (to >= args.weights.features) break;
    const int64_t at = TiledIndex(blockIdx.y * S::kRows, to, AtomsOfRows(args.rows));
    CopyBulkOut(static_cast<uint16_t*>(args.out) + at, stages + column / kAtomDepth * S::kRowBytes,
                S::kRowBytes);
  }
  WaitForCopiesOut();
}

// Two warpgroups begin their products in turns: while those of one run, the other adds up a
// slice and reads weights. Begun together they would also end together, and nothing would run
// meanwhile.
template <typename S>
struct Turns {
  static constexpr int kFirstBarrier = 2, kThreads = 2 * kWarpgroup;
  static constexpr bool kTakes = S::kGroups == 2;
  int group = threadIdx.x / kWarpgroup;

  __device__ __forceinline__ Turns() {
    if (kTakes && group == 1) Give(0);
  }
  __device__ __forceinline__ void Await() const {
    if (!kTakes) return;
    asm volatile("bar.sync %0, %1;" ::"r"(kFirstBarrier + group), "n"(kThreads) : "memory");
  }
  __device__ __forceinline__ void Pass() const {
    if (kTakes) Give(1 - group);
  }
  // Takes what the last turn of the other gave.
  __device__ __forceinline__ void End() const {
    if (group == 0) Await();
  }

 private:
  __device__ __forceinline__ static void Give(int to) {
    asm volatile("bar.arrive %0, %1;" ::"r"(kFirstBarrier + to), "n"(kThreads) : "memory");
  }
};

// One warpgroup's part of a block.
template <typename T, typename S>
struct Worker {
  Pipeline<S>& pipeline;
  const char* stages;
  Turns<S> turns;
  float c[S::kRowTiles][4];

  __device__ __forceinline__ Worker(Pipeline<S>& with, const char* in)
      : pipeline(with), stages(in) {}

  // c = or += kSteps steps, from the first of `stage` on. They are begun and waited for
  // together: what is under way must not cross a branch.
  template <int kSteps>
  __device__ __forceinline__ void Take(int stage, bool adds) {
    constexpr int kTaken = (kSteps + kStageSteps - 1) / kStageSteps;
    uint4 a[2 * kSteps];
    const char* data[kTaken];
#pragma unroll
    for (int i = 0; i < kTaken; ++i) {
      const int slot = (stage + i) % S::kStages;
      WaitFor(&pipeline.full[slot], (stage + i) / S::kStages % 2);
      data[i] = stages + slot * S::kStageBytes;
    }
    const int first = threadIdx.x / 32 * kStageSteps * kStepWords + threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kSteps * 2; ++i) {
      const char* weights = data[i / 2 / kStageSteps] + S::kRowBytes;
      a[i] = reinterpret_cast<const uint4*>(weights)[first + i % (2 * kStageSteps) * 32];
    }
    turns.Await();
    FenceWarpgroup();
#pragma unroll
    for (int i = 0; i < kSteps * 2; ++i) {
      const char* rows = data[i / 2 / kStageSteps] + i % (2 * kStageSteps) * 32;
      WarpgroupMma(c, a[i], OperandDescriptor(rows), adds || i > 0, T());
    }
    CommitWarpgroup();
    turns.Pass();
    WaitForWarpgroup();
#pragma unroll
    for (int i = 0; i < kTaken; ++i) {
      if (threadIdx.x % 32 == 0) Arrive(&pipeline.empty[(stage + i) % S::kStages]);
    }
  }

  // c = a slice of `steps`; returns the stage after it.
  __device__ __forceinline__ int TakeSlice(int stage, int steps) {
    for (int taken = 0; taken < steps;) {
      if (steps - taken >= 2 * kStageSteps) {
        Take<2 * kStageSteps>(stage, taken > 0);
        stage += 2;
        taken += 2 * kStageSteps;
      } else if (steps - taken >= kStageSteps) {
        Take<kStageSteps>(stage++, taken > 0);
        taken += kStageSteps;
      } else {
        Take<1>(stage++, taken > 0);
        ++taken;
      }
    }
    return stage;
  }
};

template <typename T, typename S, Epilogue kEpilogue>
__device__ __forceinline__ void Compute(const ProductArgs& args, Pipeline<S>& pipeline,
                                        char* stages) {
  const int steps = args.weights.steps;
  Worker<T, S> worker(pipeline, stages);
  float sums[S::kRowTiles][4] = {};
  int stage = 0;
  for (int step = 0; step < steps; step += args.steps_per_slice) {
    stage = worker.TakeSlice(stage, min(args.steps_per_slice, steps - step));
#pragma unroll
    for (int n = 0; n < S::kRowTiles * 4; ++n) sums[n / 4][n % 4] += worker.c[n / 4][n % 4];
  }
  worker.turns.End();
  WaitForPrevious();  // the copier did; what is added to may be older than its rows
  if constexpr (kEpilogue == Epilogue::kStore || kEpilogue == Epilogue::kAdd) {
    const int tile = blockIdx.x * S::kBlockTiles + threadIdx.x / 32;
    StoreSums<S, kEpilogue == Epilogue::kAdd>(args, Place(tile, blockIdx.y * S::kRows), sums);
  } else {
    StoreHalves<T, S, kEpilogue>(args, stages, sums);
  }
}

#endif

template <typename T, typename S, Epilogue kEpilogue>
__global__ void __launch_bounds__(S::kThreads, S::kResident) TileProduct(const ProductArgs args) {
#ifdef REPRISE_HAS_WGMMA
  extern __shared__ char memory[];
  __shared__ Pipeline<S> pipeline;
  LetNextStart();
  char* stages = memory + (S::kAlignment - SharedAddress(memory) % S::kAlignment) % S::kAlignment;
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; ++i) {
      InitBarrier(&pipeline.full[i], 1);
      InitBarrier(&pipeline.empty[i], 4 * S::kGroups);
    }
    FenceBarriers();
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroup * S::kGroups) {
    Compute<T, S, kEpilogue>(args, pipeline, stages);
  } else {
    const Copier<S> copier{args,
                           pipeline,
                           stages,
                           static_cast<int>(blockIdx.x) * S::kBlockTiles,
                           static_cast<int>(blockIdx.y) * S::kRows,
                           AtomsOfRows(args.rows)};
    copier.Run((args.weights.steps + kStageSteps - 1) / kStageSteps);
  }
#else
  __trap();
#endif
}

template <typename T, typename S>
cudaError_t Launch(const ProductArgs& args, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(args.weights.tiles / S::kBlockTiles, (args.rows + S::kRows - 1) / S::kRows);
  shape.threads = S::kThreads;
  shape.shared = S::kSharedBytes;
  return WithEpilogue(args.epilogue, [&](auto epilogue) {
    return LaunchOverlapping(TileProduct<T, S, decltype(epilogue)::value>, shape, args, stream);
  });
}

}  // namespace

cudaError_t LaunchTileProductOf(int shape, const ProductArgs& args, cudaStream_t stream) {
  const bool pairs = args.stride % 2 == 0 && args.weights.features % 2 == 0;
  if (args.steps_per_slice % kStageSteps != 0 || !pairs) return cudaErrorInvalidValue;
  return WithHalf(args.weights.type, [&](auto half) {
    using T = decltype(half);
    switch (shape) {
      case 0:
        return Launch<T, Shape<2, 128, 5>>(args, stream);
      case 1:
        return Launch<T, Shape<2, 64, 4>>(args, stream);
      default:
        // Whole atoms of gated activations take two warpgroups.
        if (IsGated(args.epilogue)) return Launch<T, Shape<2, 64, 4>>(args, stream);
        return Launch<T, Shape<1, 64, 6>>(args, stream);
    }
  });
}

// The large shape reads shared memory least, and is chosen where it has a block for most
// multiprocessors.
cudaError_t LaunchTileProduct(const ProductArgs& args, cudaStream_t stream) {
  constexpr int kEnough = 90, kLargeTiles = 8, kLargeRows = 128;
  const int blocks = args.weights.tiles / kLargeTiles * ((args.rows + kLargeRows - 1) / kLargeRows);
  return LaunchTileProductOf(blocks >= kEnough ? 0 : 2, args, stream);
}

}  // namespace reprise::cuda
