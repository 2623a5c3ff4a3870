// Attention over paged KV. A thread block serves one tile of up to 16 (row, head) pairs
// and one KV head. Blocks of 64 keys, counted from position 0, are computed apart from
// each other, one by a warp, each with its own maximum and sum, and join the result in
// order: so neither the tile a row is in nor the number of warps changes a bit.
//
// Source  Dao et al. 2022, arXiv 2205.14135 (online softmax over blocks); here each block
//         of keys starts afresh, as in Flash-Decoding's splits of fixed size.
#include "core/model/cuda/attention.cuh"
#include "core/model/cuda/launch.cuh"

namespace reprise::cuda {
namespace {

constexpr int kMaxChunk = 128;        // columns of the output a block computes
constexpr int kPadding = 8;           // floats, against bank conflicts
constexpr unsigned kFewBlocks = 160;  // about one for each multiprocessor

template <int kDim>
struct Sizes {
  static constexpr int kSteps = kDim / kStepDepth;
  static constexpr int kChunk = kDim < kMaxChunk ? kDim : kMaxChunk;
  static constexpr int kWarps = kDim <= 64 ? 8 : 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kTogether = kDim <= 64 ? 4 : kDim <= 128 ? 2 : 1;  // sub-blocks of K
};

template <int kDim>
struct Shared {
  using S = Sizes<kDim>;
  float partial[S::kWarps][kPairs][S::kChunk + kPadding];  // P V of the warps' key blocks
  float maxima[S::kWarps][kPairs];
  float sums[S::kWarps][kPairs];
  JoinScales scales[S::kWarps][kPairs];
  float total[kPairs];
};

// Fragments of K of kTogether sub-blocks. Column n of half h is key 4 (n / 2) + 2 h + n % 2,
// so that a thread's probabilities are those of the keys its fragment of V holds.
template <int kDim>
struct KeyGroup {
  static constexpr int kTogether = Sizes<kDim>::kTogether, kSteps = Sizes<kDim>::kSteps;
  uint4 words[kTogether][2][kSteps];

  template <typename T>
  __device__ __forceinline__ void Load(const Tile<T, kDim>& tile, int first_key) {
    const int t = threadIdx.x % 4, n = threadIdx.x % 32 / 4;
#pragma unroll
    for (int s = 0; s < kTogether; ++s) {
      const T* keys = tile.Block(first_key + s * kKvBlock, tile.args.kv.keys);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const auto* key = reinterpret_cast<const uint4*>(keys + (n / 2 * 4 + 2 * h + n % 2) * kDim);
#pragma unroll
        for (int step = 0; step < kSteps; ++step) words[s][h][step] = LoadAhead(key + step * 4 + t);
      }
    }
  }
};

// Scores of 64 keys.
template <typename T, int kDim>
__device__ __forceinline__ void Score(const Tile<T, kDim>& tile, int first_key,
                                      float (&scores)[kSubBlocks][2][4]) {
  constexpr int kTogether = Sizes<kDim>::kTogether;
#pragma unroll
  for (int first = 0; first < kSubBlocks; first += kTogether) {
    KeyGroup<kDim> keys;
    keys.Load(tile, first_key + first * kKvBlock);
#pragma unroll
    for (int j = 0; j < 2 * kTogether; ++j) {
      const int s = first + j / 2, h = j % 2;
      float c[4] = {};
#pragma unroll
      for (int step = 0; step < Sizes<kDim>::kSteps; ++step) {
        const uint4 word = keys.words[j / 2][h][step];
        Mma(c, tile.q[step][0], word.x, word.y, T());
        Mma(c, tile.q[step][1], word.z, word.w, T());
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = first_key + s * kKvBlock + threadIdx.x % 4 * 4 + 2 * h + e % 2;
        scores[s][h][e] = tile.Score(c[e], e / 2, key);
      }
    }
  }
}

constexpr int kGroup = 4;  // tiles of 8 columns whose values are under way at once

// Fragments of V: of kGroup tiles of columns, each of 16 keys.
struct ValueGroup {
  uint2 words[kGroup][kSubBlocks];

  template <typename T>
  __device__ __forceinline__ void Load(const T* const (&values)[kSubBlocks], int first_column) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const int at = (first_column + i * 8 + lane / 4) * kKvBlock + lane % 4 * 4;
#pragma unroll
      for (int s = 0; s < kSubBlocks; ++s) {
        words[i][s] = LoadAhead(reinterpret_cast<const uint2*>(values[s] + at));
      }
    }
  }
};

// One block of keys, by one warp.
template <typename T, int kDim>
__device__ __forceinline__ void ComputeKeyBlock(const Tile<T, kDim>& tile, int first_key,
                                                Shared<kDim>& shared) {
  constexpr int kChunk = Sizes<kDim>::kChunk;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float scores[kSubBlocks][2][4];
  Score(tile, first_key, scores);
  const T* values[kSubBlocks];
#pragma unroll
  for (int s = 0; s < kSubBlocks; ++s) {
    values[s] =
        tile.Block(first_key + s * kKvBlock, tile.args.kv.values) + blockIdx.z * kChunk * kKvBlock;
  }
  ValueGroup group;
  group.Load(values, 0);
  const BlockSoftmax softmax(scores);
  if (lane % 4 < 2) {
    const int i = lane % 4;
    shared.maxima[warp][lane / 4 + 8 * i] = i == 0 ? softmax.maximum[0] : softmax.maximum[1];
    shared.sums[warp][lane / 4 + 8 * i] = i == 0 ? softmax.sum[0] : softmax.sum[1];
  }
  FragmentA p[kSubBlocks];
#pragma unroll
  for (int s = 0; s < kSubBlocks; ++s) p[s] = ToFragment<T>(scores[s]);
#pragma unroll
  for (int column = 0; column < kChunk; column += 8 * kGroup) {
    const ValueGroup now = group;
    if (column + 8 * kGroup < kChunk) group.Load(values, column + 8 * kGroup);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      float c[4] = {};
#pragma unroll
      for (int s = 0; s < kSubBlocks; ++s) Mma(c, p[s], now.words[i][s].x, now.words[i][s].y, T());
      float* to = &shared.partial[warp][lane / 4][column + i * 8 + lane % 4 * 2];
      *reinterpret_cast<float2*>(to) = make_float2(c[0], c[1]);
      *reinterpret_cast<float2*>(to + 8 * (kChunk + kPadding)) = make_float2(c[2], c[3]);
    }
  }
}

// kResident: thread blocks that a multiprocessor holds at once. One may use all registers,
// so that its loads are under way together; where there are many, two hide more.
template <typename T, int kDim, int kResident>
__global__ void __launch_bounds__(Sizes<kDim>::kThreads, kResident)
    Attend(const AttentionArgs args) {
  using S = Sizes<kDim>;
  __shared__ Shared<kDim> shared;
  LetNextStart();
  WaitForPrevious();
  const AttentionTile where = args.tiles[blockIdx.x];
  if (where.pairs == 0) return;
  const Tile<T, kDim> tile(where, blockIdx.y, args);
  const int oldest = tile.Position(0) - args.window + 1;
  const int first = args.window > 0 && oldest > 0 ? oldest / kKeyBlock : 0;
  const int end = tile.last_position / kKeyBlock + 1;
  constexpr int kEach = kPairs * S::kChunk / S::kThreads;  // elements of the result per thread
  float result[kEach] = {};
  Running running;
  for (int block = first; block < end; block += S::kWarps) {
    const int warp = threadIdx.x / 32, blocks = min(S::kWarps, end - block);
    if (warp < blocks) ComputeKeyBlock(tile, (block + warp) * kKeyBlock, shared);
    __syncthreads();
    if (threadIdx.x < kPairs) {  // thread i keeps what runs of pair i
      for (int b = 0; b < blocks; ++b) {
        shared.scales[b][threadIdx.x] =
            running.Join(shared.maxima[b][threadIdx.x], shared.sums[b][threadIdx.x]);
      }
      shared.total[threadIdx.x] = running.sum;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = i * S::kThreads + threadIdx.x, pair = at / S::kChunk, column = at % S::kChunk;
      for (int b = 0; b < blocks; ++b) {
        result[i] = shared.scales[b][pair].Join(result[i], shared.partial[b][pair][column]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int at = i * S::kThreads + threadIdx.x, pair = at / S::kChunk;
    const int dim = blockIdx.z * S::kChunk + at % S::kChunk;
    if (pair >= tile.tile.pairs || dim >= args.head_dim) continue;
    const int64_t to = OutIndex(args, tile.Row(pair), tile.Head(pair) * args.head_dim + dim);
    StoreHalf(args, to, result[i] / shared.total[pair]);
  }
}

template <typename T, int kDim>
cudaError_t Launch(const AttentionArgs& args, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(args.num_tiles, args.kv_heads, kDim / Sizes<kDim>::kChunk);
  shape.threads = Sizes<kDim>::kThreads;
  const unsigned blocks = shape.grid.x * shape.grid.y * shape.grid.z;
  return blocks <= kFewBlocks ? LaunchOverlapping(Attend<T, kDim, 1>, shape, args, stream)
                              : LaunchOverlapping(Attend<T, kDim, 2>, shape, args, stream);
}

cudaError_t LaunchNarrow(const AttentionArgs& args, cudaStream_t stream) {
  return WithHalf(args.kv.type, [&](auto half) {
    using T = decltype(half);
    return WithPaddedDim<256>(args.kv.padded_dim, [&](auto dim) {
      return Launch<T, decltype(dim)::value>(args, stream);
    });
  });
}

}  // namespace

cudaError_t LaunchAttention(const AttentionArgs& args, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  if (args.num_wide_tiles > 0) error = LaunchWideAttention(args, stream);
  if (error != cudaSuccess || args.num_tiles == 0) return error;
  return LaunchNarrow(args, stream);
}

}  // namespace reprise::cuda
