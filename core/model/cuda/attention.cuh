// What the kernels of attention share: where a tile's rows, heads and KV blocks are, the
// softmax of one block of 64 keys, and how such blocks join in order. They agree in every
// bit, so which one serves a tile is a matter of speed.
#pragma once

#include <type_traits>

#include "core/model/cuda/mma.cuh"
#include "core/model/cuda/tiled_rows.cuh"

namespace reprise::cuda {

inline constexpr int kPairs = 16;    // of a fragment
inline constexpr int kKvBlock = 16;  // tokens
inline constexpr int kSubBlocks = kKeyBlock / kKvBlock;
inline constexpr float kNothing = -INFINITY;

// What a thread knows of its tile. It holds pairs g and g + 8 of fragments.
template <typename T, int kDim>
struct Tile {
  static constexpr int kSteps = kDim / kStepDepth;

  const AttentionTile& tile;
  const AttentionArgs& args;
  int kv_head, group, last_position;
  int positions[2];  // of pairs g and g + 8
  FragmentA q[kSteps][2];

  __device__ __forceinline__ Tile(const AttentionTile& of, int head, const AttentionArgs& all)
      : tile(of), args(all), kv_head(head), group(all.heads / all.kv_heads) {
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
    return kv_head * group + (tile.first_pair + pair) % group;
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
    for (int step = 0; step < kSteps; ++step) {
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
           static_cast<int64_t>(kv_head) * kKvBlock * kDim;
  }

  // Scaled, or kNothing where the pair g + 8 i does not see the key.
  __device__ __forceinline__ float Score(float sum, int i, int key) const {
    const int position = positions[i];
    const bool sees = key <= position && (args.window == 0 || key > position - args.window);
    return sees ? sum * args.scale : kNothing;
  }
};

// Scores of 64 keys become probabilities relative to their maximum; of pairs g and g + 8.
struct BlockSoftmax {
  float maximum[2], sum[2];

  __device__ __forceinline__ explicit BlockSoftmax(float (&scores)[kSubBlocks][2][4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      maximum[i] = kNothing;
      sum[i] = 0;
#pragma unroll
      for (int j = 0; j < kSubBlocks * 4; ++j) {
        maximum[i] = fmaxf(maximum[i], scores[j / 4][j / 2 % 2][i * 2 + j % 2]);
      }
      maximum[i] = fmaxf(maximum[i], __shfl_xor_sync(0xffffffffu, maximum[i], 1));
      maximum[i] = fmaxf(maximum[i], __shfl_xor_sync(0xffffffffu, maximum[i], 2));
#pragma unroll
      for (int j = 0; j < kSubBlocks * 4; ++j) {
        float& score = scores[j / 4][j / 2 % 2][i * 2 + j % 2];
        score = maximum[i] == kNothing ? 0.0f : Exp2(score - maximum[i]);
        sum[i] += score;
      }
      sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
      sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
    }
  }
};

// Probabilities as the fragment that V is multiplied with.
template <typename T>
__device__ __forceinline__ FragmentA ToFragment(const float (&scores)[2][4]) {
  const auto& [low, high] = scores;
  return {PackTwo<T>(low[0], low[1]), PackTwo<T>(low[2], low[3]), PackTwo<T>(high[0], high[1]),
          PackTwo<T>(high[2], high[3])};
}

// How the result so far and a block are scaled as the block joins.
struct JoinScales {
  float old_scale, new_scale;

  __device__ __forceinline__ bool changes() const { return new_scale != 0.0f || old_scale != 1.0f; }
  __device__ __forceinline__ float Join(float result, float partial) const {
    return changes() ? __fmaf_rn(result, old_scale, partial * new_scale) : result;
  }
};

// The running maximum and sum of a pair.
struct Running {
  float maximum = kNothing, sum = 0;

  __device__ __forceinline__ JoinScales Join(float block_maximum, float block_sum) {
    if (block_maximum == kNothing) return {1.0f, 0.0f};  // this pair sees none of the block
    const float joint = fmaxf(maximum, block_maximum);
    const JoinScales scales{Exp2(maximum - joint), Exp2(block_maximum - joint)};
    sum = sum * scales.old_scale + block_sum * scales.new_scale;
    maximum = joint;
    return scales;
  }
};

__device__ __forceinline__ int64_t OutIndex(const AttentionArgs& args, int row, int column) {
  if (args.out_order == RowOrder::kTiles) return TiledIndex(row, column, AtomsOfRows(args.rows));
  return static_cast<int64_t>(row) * args.out_stride + column;
}

// The output's type is the weights', which need not be that of KV.
__device__ __forceinline__ void StoreHalf(const AttentionArgs& args, int64_t at, float value) {
  if (args.out_type == HalfType::kFp16) {
    static_cast<__half*>(args.out)[at] = To<__half>(value);
  } else {
    static_cast<__nv_bfloat16*>(args.out)[at] = To<__nv_bfloat16>(value);
  }
}

// Two in a row, the first at an even place.
__device__ __forceinline__ void StoreHalves(const AttentionArgs& args, int64_t at, float first,
                                            float second) {
  auto* to = reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(args.out) + at);
  *to = args.out_type == HalfType::kFp16 ? PackTwo<__half>(first, second)
                                         : PackTwo<__nv_bfloat16>(first, second);
}

// Calls `launch` with a std::integral_constant of the head's padded dimension, if that is one of
// those that kernels are made for, the largest being kMost.
template <int kMost, typename Launch>
cudaError_t WithPaddedDim(int dim, const Launch& launch) {
  switch (dim) {
    case 32:
      return launch(std::integral_constant<int, 32>());
    case 64:
      return launch(std::integral_constant<int, 64>());
    case 96:
      return launch(std::integral_constant<int, 96>());
    case 128:
      return launch(std::integral_constant<int, 128>());
    case 256:
      if constexpr (kMost >= 256) return launch(std::integral_constant<int, 256>());
      [[fallthrough]];
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace reprise::cuda
