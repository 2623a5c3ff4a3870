// Attention of prompts: a thread block serves a tile of up to 64 (row, head) pairs and one KV
// head. Its warps take 16 pairs each and share the blocks of 64 keys, which are copied into
// shared memory ahead. A block is computed and joined as attention.cu does it, in registers.
#include "core/model/cuda/async_copy.cuh"
#include "core/model/cuda/attention.cuh"
#include "core/model/cuda/launch.cuh"

namespace reprise::cuda {
namespace {

constexpr int kWarps = kWidePairs / kPairs;
constexpr int kThreads = 32 * kWarps;

template <int kDim>
struct Sizes {
  static constexpr int kSteps = kDim / kStepDepth;
  static constexpr int kRowWords = kDim / 8;  // of 16 bytes, of a key
  static constexpr int kSideWords = kKeyBlock * kRowWords;
  static constexpr int kBlockWords = 2 * kSideWords;    // K, then V
  static constexpr int kTogether = kDim <= 64 ? 2 : 1;  // blocks of keys in a buffer
  static constexpr int kBufferWords = kTogether * kBlockWords;
  static constexpr int kSharedBytes = 2 * kBufferWords * 16;  // at most sm_75's 64 KiB
  static constexpr int kColumns = kDim / 8;                   // tiles of 8
  // Rows of whole 128 bytes begin in the same bank; odd keys trade their halves.
  static constexpr int kSwizzle = kDim % 64 == 0 ? 4 : 0;
};

// Copies the block of keys that begins at `first_key`. Past the tile's last key a sub-block is
// the last key's (Tile::Block).
template <typename T, int kDim>
__device__ __forceinline__ void CopyKeyBlock(const Tile<T, kDim>& tile, int first_key,
                                             uint4* buffer) {
  using S = Sizes<kDim>;
  constexpr int kSubWords = S::kSideWords / kSubBlocks;
#pragma unroll
  for (int s = 0; s < kSubBlocks; ++s) {
    const int first = first_key + s * kKvBlock;
    const auto* keys = reinterpret_cast<const uint4*>(tile.Block(first, tile.args.kv.keys));
    const auto* values = reinterpret_cast<const uint4*>(tile.Block(first, tile.args.kv.values));
    uint4* to = buffer + s * kSubWords;
    for (int i = threadIdx.x; i < kSubWords; i += kThreads) {
      const int odd = i / S::kRowWords % 2;
      CopyAsync(to + (i ^ odd * S::kSwizzle), keys + i);
      CopyAsync(to + S::kSideWords + i, values + i);
    }
  }
}

template <typename T, int kDim>
__device__ __forceinline__ void Score(const Tile<T, kDim>& tile, const uint4* keys, int first_key,
                                      float (&scores)[kSubBlocks][2][4]) {
  using S = Sizes<kDim>;
  const int t = threadIdx.x % 4, n = threadIdx.x % 32 / 4;
#pragma unroll
  for (int s = 0; s < kSubBlocks; ++s) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int key = s * kKvBlock + n / 2 * 4 + 2 * h + n % 2;
      float c[4] = {};
#pragma unroll
      for (int step = 0; step < S::kSteps; ++step) {
        const uint4 word = keys[key * S::kRowWords + ((step * 4 + t) ^ n % 2 * S::kSwizzle)];
        Mma(c, tile.q[step][0], word.x, word.y, T());
        Mma(c, tile.q[step][1], word.z, word.w, T());
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int at = first_key + s * kKvBlock + t * 4 + 2 * h + e % 2;
        scores[s][h][e] = tile.Score(c[e], e / 2, at);
      }
    }
  }
}

// One warp's part of the work: its pairs, their result so far.
template <typename T, int kDim>
struct Worker {
  using S = Sizes<kDim>;
  const Tile<T, kDim>& tile;
  Running running[2];  // of pairs g and g + 8
  float result[S::kColumns][4] = {};

  __device__ __forceinline__ explicit Worker(const Tile<T, kDim>& of) : tile(of) {}

  // kCount blocks of keys; what they do not share is under way together.
  template <int kCount>
  __device__ __forceinline__ void Take(const uint4* buffer, int first_key) {
    FragmentA p[kCount][kSubBlocks];
    JoinScales scales[kCount][2];
    float scores[kCount][kSubBlocks][2][4];
#pragma unroll
    for (int b = 0; b < kCount; ++b) {
      Score(tile, buffer + b * S::kBlockWords, first_key + b * kKeyBlock, scores[b]);
    }
#pragma unroll
    for (int b = 0; b < kCount; ++b) {
      const BlockSoftmax softmax(scores[b]);
#pragma unroll
      for (int s = 0; s < kSubBlocks; ++s) p[b][s] = ToFragment<T>(scores[b][s]);
      scales[b][0] = running[0].Join(softmax.maximum[0], softmax.sum[0]);
      scales[b][1] = running[1].Join(softmax.maximum[1], softmax.sum[1]);
    }
#pragma unroll
    for (int i = 0; i < S::kColumns; ++i) {
      float c[kCount][4] = {};
#pragma unroll
      for (int n = 0; n < kCount * kSubBlocks; ++n) {
        const int b = n % kCount, s = n / kCount;
        const auto* values =
            reinterpret_cast<const uint2*>(buffer + b * S::kBlockWords + S::kSideWords);
        const uint2 word = values[(s * kDim + i * 8) * 4 + threadIdx.x % 32];
        Mma(c[b], p[b][s], word.x, word.y, T());
      }
#pragma unroll
      for (int n = 0; n < kCount * 4; ++n) {
        const int b = n / 4, e = n % 4;
        result[i][e] = scales[b][e / 2].Join(result[i][e], c[b][e]);
      }
    }
  }

  // Heads have an even number of dimensions.
  __device__ __forceinline__ void Store() const {
    const AttentionArgs& args = tile.args;
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int pair = g + 8 * h;
      if (pair >= tile.tile.pairs) continue;
      const int row = tile.Row(pair), column = tile.Head(pair) * args.head_dim + 2 * t;
      const float total = running[h].sum;
#pragma unroll
      for (int i = 0; i < S::kColumns; ++i) {
        if (i * 8 + 2 * t >= args.head_dim) continue;
        StoreHalves(args, OutIndex(args, row, column + i * 8), result[i][2 * h] / total,
                    result[i][2 * h + 1] / total);
      }
    }
  }
};

// The last rows see most keys. Tiles begin from both ends of the list, so that the thread
// blocks which a multiprocessor gets one after another have about as much to do as those of
// the others.
__device__ __forceinline__ int TileOf(int index, int count) {
  const int large = (count + 1) / 2;
  return index < large ? count - 1 - index : index - large;
}

template <typename T, int kDim>
__global__ void __launch_bounds__(kThreads, 2) AttendWide(const AttentionArgs args) {
  using S = Sizes<kDim>;
  extern __shared__ uint4 buffers[];  // two
  LetNextStart();
  WaitForPrevious();
  const AttentionTile whole = args.wide_tiles[TileOf(blockIdx.y, gridDim.y)];
  if (whole.pairs == 0) return;
  const int skipped = min(static_cast<int>(threadIdx.x) / 32 * kPairs, whole.pairs - 1);
  AttentionTile own = whole;
  own.first_pair += skipped;
  own.pairs = min(kPairs, whole.pairs - skipped);
  Tile<T, kDim> tile(own, blockIdx.x, args);
  const int own_end = tile.last_position / kKeyBlock + 1;
  tile.last_position = tile.Position(whole.pairs - 1 - skipped);
  const int oldest = tile.Position(-skipped) - args.window + 1;
  const int first = args.window > 0 && oldest > 0 ? oldest / kKeyBlock : 0;
  const int end = tile.last_position / kKeyBlock + 1;
  Worker<T, kDim> worker(tile);
  const auto copy = [&](int block) {
    uint4* buffer = buffers + (block - first) / S::kTogether % 2 * S::kBufferWords;
    for (int b = 0; b < S::kTogether && block + b < end; ++b) {
      CopyKeyBlock(tile, (block + b) * kKeyBlock, buffer + b * S::kBlockWords);
    }
    CommitCopies();
  };
  copy(first);
  for (int block = first; block < end; block += S::kTogether) {
    copy(block + S::kTogether);
    WaitForCopies<1>();
    __syncthreads();
    const uint4* buffer = buffers + (block - first) / S::kTogether % 2 * S::kBufferWords;
    if (block + S::kTogether <= own_end) {
      worker.template Take<S::kTogether>(buffer, block * kKeyBlock);
    } else if (block < own_end) {
      worker.template Take<1>(buffer, block * kKeyBlock);
    }
    __syncthreads();
  }
  if (threadIdx.x / 32 * kPairs < whole.pairs) worker.Store();
}

template <typename T, int kDim>
cudaError_t Launch(const AttentionArgs& args, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(args.kv_heads, args.num_wide_tiles);
  shape.threads = kThreads;
  shape.shared = Sizes<kDim>::kSharedBytes;
  return LaunchOverlapping(AttendWide<T, kDim>, shape, args, stream);
}

}  // namespace

cudaError_t LaunchWideAttention(const AttentionArgs& args, cudaStream_t stream) {
  return WithHalf(args.kv.type, [&](auto half) {
    using T = decltype(half);
    return WithPaddedDim<128>(args.kv.padded_dim, [&](auto dim) {
      return Launch<T, decltype(dim)::value>(args, stream);
    });
  });
}

}  // namespace reprise::cuda
