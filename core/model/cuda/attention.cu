// Attention over paged KV. A thread block serves one tile of up to 16 (row, head) pairs
// and one KV head. Blocks of 64 keys, counted from position 0, are computed apart from
// each other, one by a warp, each with its own maximum and sum, and join the result in
// order: so neither the tile a row is in nor the number of warps changes a bit.
//
// Source  Dao et al. 2022, arXiv 2205.14135 (online softmax over blocks); here each block
//         of keys starts afresh, as in Flash-Decoding's splits of fixed size.
#include "core/model/cuda/launch.cuh"
#include "core/model/cuda/mma.cuh"

namespace reprise::cuda {
namespace {

constexpr int kPairs = 16;
constexpr int kKvBlock = 16;  // tokens
constexpr int kSubBlocks = kKeyBlock / kKvBlock;
constexpr int kMaxChunk = 128;  // columns of the output a block computes
constexpr int kPadding = 8;     // floats, against bank conflicts
constexpr float kNothing = -INFINITY;
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
  float old_scale[S::kWarps][kPairs];  // of the result when the block joins it
  float new_scale[S::kWarps][kPairs];  // of the block
  float total[kPairs];
};

// What a thread knows of its tile. It holds pairs g and g + 8 of fragments.
template <typename T, int kDim>
struct Tile {
  const AttentionTile& tile;
  const AttentionArgs& args;
  int group, last_position;
  int positions[2];  // of pairs g and g + 8
  FragmentA q[Sizes<kDim>::kSteps][2];

  __device__ __forceinline__ Tile(const AttentionTile& of, const AttentionArgs& all)
      : tile(of), args(all), group(all.heads / all.kv_heads) {
    const int g = threadIdx.x % 32 / 4;
    last_position = Position(tile.pairs - 1);
    positions[0] = Position(g);
    positions[1] = Position(g + 8);
    LoadQueries();
  }

  __device__ __forceinline__ int Position(int pair) const {
    return tile.first_position + (tile.first_pair + pair) / group;
  }
  __device__ __forceinline__ int Row(int pair) const {
    return tile.first_row + (tile.first_pair + pair) / group;
  }
  __device__ __forceinline__ int Head(int pair) const {
    return blockIdx.y * group + (tile.first_pair + pair) % group;
  }

  __device__ __forceinline__ void LoadQueries() {
    const int lane = threadIdx.x % 32;
    const uint4* rows[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int pair = min(lane / 4 + 8 * i, tile.pairs - 1);
      const int64_t head = static_cast<int64_t>(Row(pair)) * args.heads + Head(pair);
      rows[i] = reinterpret_cast<const uint4*>(static_cast<const T*>(args.q) + head * kDim);
    }
#pragma unroll
    for (int step = 0; step < Sizes<kDim>::kSteps; ++step) {
      const uint4 a = rows[0][step * 4 + lane % 4], b = rows[1][step * 4 + lane % 4];
      q[step][0] = FragmentA{a.x, b.x, a.y, b.y};
      q[step][1] = FragmentA{a.z, b.z, a.w, b.w};
    }
  }

  // Where a head of a sub-block begins. Past the last key it is the last key's, so that
  // nothing else is read: its keys are seen by none of the tile and weigh zero.
  __device__ __forceinline__ const T* Block(int first_key, const void* base) const {
    const int index = min(first_key, last_position) / kKvBlock;
    const int64_t block = args.tables[tile.table + index];
    return static_cast<const T*>(base) + block * args.kv.block_stride +
           static_cast<int64_t>(blockIdx.y) * kKvBlock * kDim;
  }

  // Scaled, or kNothing where the pair g + 8 i does not see the key.
  __device__ __forceinline__ float Score(float sum, int i, int key) const {
    const int position = positions[i];
    const bool sees = key <= position && (args.window == 0 || key > position - args.window);
    return sees ? sum * args.scale : kNothing;
  }
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

// Scores become probabilities relative to the block's maximum, which is stored with their sum.
__device__ __forceinline__ void Exponentiate(float (&scores)[kSubBlocks][2][4], float* maxima,
                                             float* sums) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {  // pairs g and g + 8
    float maximum = kNothing, sum = 0;
#pragma unroll
    for (int j = 0; j < kSubBlocks * 4; ++j) {
      maximum = fmaxf(maximum, scores[j / 4][j / 2 % 2][i * 2 + j % 2]);
    }
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
#pragma unroll
    for (int j = 0; j < kSubBlocks * 4; ++j) {
      float& score = scores[j / 4][j / 2 % 2][i * 2 + j % 2];
      score = maximum == kNothing ? 0.0f : Exp2(score - maximum);
      sum += score;
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (lane % 4 == 0) {
      maxima[lane / 4 + 8 * i] = maximum;
      sums[lane / 4 + 8 * i] = sum;
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
  Exponentiate(scores, shared.maxima[warp], shared.sums[warp]);
  FragmentA p[kSubBlocks];
#pragma unroll
  for (int s = 0; s < kSubBlocks; ++s) {
    const auto& [low, high] = scores[s];
    p[s] = {PackTwo<T>(low[0], low[1]), PackTwo<T>(low[2], low[3]), PackTwo<T>(high[0], high[1]),
            PackTwo<T>(high[2], high[3])};
  }
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

// The output's type is the weights', which need not be that of KV.
__device__ __forceinline__ void StoreHalf(const AttentionArgs& args, int64_t at, float value) {
  if (args.out_type == HalfType::kFp16) {
    static_cast<__half*>(args.out)[at] = To<__half>(value);
  } else {
    static_cast<__nv_bfloat16*>(args.out)[at] = To<__nv_bfloat16>(value);
  }
}

// The running maximum and sum of a pair, kept by thread `pair` of the block.
struct Running {
  float maximum = kNothing, sum = 0;

  // Takes in `blocks` key blocks in order and says how the result and each are scaled.
  template <int kDim>
  __device__ __forceinline__ void Join(int pair, int blocks, Shared<kDim>& shared) {
    for (int b = 0; b < blocks; ++b) {
      const float other = shared.maxima[b][pair], joint = fmaxf(maximum, other);
      const bool nothing = other == kNothing;  // this pair sees none of the block
      const float old_scale = nothing ? 1.0f : Exp2(maximum - joint);
      const float new_scale = nothing ? 0.0f : Exp2(other - joint);
      shared.old_scale[b][pair] = old_scale;
      shared.new_scale[b][pair] = new_scale;
      if (nothing) continue;
      sum = sum * old_scale + shared.sums[b][pair] * new_scale;
      maximum = joint;
    }
    shared.total[pair] = sum;
  }
};

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
  const Tile<T, kDim> tile(where, args);
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
    if (threadIdx.x < kPairs) running.Join(threadIdx.x, blocks, shared);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = i * S::kThreads + threadIdx.x, pair = at / S::kChunk, column = at % S::kChunk;
      for (int b = 0; b < blocks; ++b) {
        const float scale = shared.new_scale[b][pair], old = shared.old_scale[b][pair];
        if (scale == 0.0f && old == 1.0f) continue;
        result[i] = __fmaf_rn(result[i], old, shared.partial[b][pair][column] * scale);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int at = i * S::kThreads + threadIdx.x, pair = at / S::kChunk;
    const int dim = blockIdx.z * S::kChunk + at % S::kChunk;
    if (pair >= tile.tile.pairs || dim >= args.head_dim) continue;
    const int64_t to = static_cast<int64_t>(tile.Row(pair)) * args.out_stride +
                       tile.Head(pair) * args.head_dim + dim;
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

}  // namespace

cudaError_t LaunchAttention(const AttentionArgs& args, cudaStream_t stream) {
  return WithHalf(args.kv.type, [&](auto half) {
    using T = decltype(half);
    switch (args.kv.padded_dim) {
      case 32:
        return Launch<T, 32>(args, stream);
      case 64:
        return Launch<T, 64>(args, stream);
      case 96:
        return Launch<T, 96>(args, stream);
      case 128:
        return Launch<T, 128>(args, stream);
      case 256:
        return Launch<T, 256>(args, stream);
      default:
        return cudaErrorInvalidValue;
    }
  });
}

}  // namespace reprise::cuda
