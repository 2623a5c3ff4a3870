// Kernels that work on rows: embedding and norms. Sums go over fixed lanes and then over a
// fixed tree.
#include "core/model/cuda/launch.cuh"
#include "core/model/cuda/mma.cuh"
#include "core/model/cuda/packing.cuh"
#include "core/model/cuda/tiled_rows.cuh"

namespace reprise::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

__device__ __forceinline__ float WarpSum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  }
  return value;
}

// The same sum in every thread of the block.
__device__ float BlockSum(float value) {
  __shared__ float sums[kWarps];
  value = WarpSum(value);
  __syncthreads();  // sums may still be read by an earlier call
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) total += sums[i];
  return total;
}

template <typename T>
__global__ void Embed(const EmbedArgs args) {
  LetNextStart();
  WaitForPrevious();
  const int row = blockIdx.x;
  const int32_t token = args.tokens[row], position = args.positions[row];
  const T* embedding = static_cast<const T*>(args.embedding.data);
  for (int k = threadIdx.x; k < args.hidden; k += kThreads) {
    float value = ToFloat(embedding[PackedIndex(token, k, args.embedding.steps)]) * args.scale;
    if (args.position_embedding != nullptr) {
      value += args.position_embedding[static_cast<int64_t>(position) * args.hidden + k];
    }
    args.x[static_cast<int64_t>(row) * args.hidden + k] = value;
  }
}

__device__ __forceinline__ int64_t IndexOf(const NormArgs& args, int row, int k) {
  if (args.order == RowOrder::kTiles) return TiledIndex(row, k, AtomsOfRows(args.rows));
  return static_cast<int64_t>(row) * PaddedDepth(args.size) + k;
}

// Values of a row that a thread keeps: k = threadIdx.x + i kThreads. Longer rows are read again.
constexpr int kKept = 8;

// One block for a row. kFits: the row is no longer than what threads keep.
template <typename T, bool kFits>
__global__ void Normalize(const NormArgs args) {
  constexpr int kSlots = kFits ? kKept : 1;
  LetNextStart();
  const int row = blockIdx.x, size = args.size, padded = PaddedDepth(size);
  float kept[kSlots], weights[kSlots], biases[kSlots];
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {  // ahead of the kernel before this one
    const int k = threadIdx.x + i * kThreads;
    weights[i] = kFits && k < size ? args.weight[k] : 0.0f;
    biases[i] = kFits && k < size && args.bias != nullptr ? args.bias[k] : 0.0f;
  }
  WaitForPrevious();
  const int64_t source = args.source_rows != nullptr ? args.source_rows[row] : row;
  const float* x = args.x + source * size;
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {
    const int k = threadIdx.x + i * kThreads;
    kept[i] = kFits && k < size ? x[k] : 0.0f;
  }
  const auto for_each = [&](const auto& visit) {
    if constexpr (kFits) {
#pragma unroll
      for (int i = 0; i < kSlots; ++i) {
        const int k = threadIdx.x + i * kThreads;
        if (k < size) visit(k, kept[i], weights[i], biases[i]);
      }
    } else {
      for (int k = threadIdx.x; k < size; k += kThreads) {
        visit(k, x[k], args.weight[k], args.bias != nullptr ? args.bias[k] : 0.0f);
      }
    }
  };
  float sum = 0, squares = 0, mean = 0;
  if (args.bias != nullptr) {
    for_each([&](int, float value, float, float) { sum += value; });
    mean = BlockSum(sum) / static_cast<float>(size);
  }
  for_each([&](int, float value, float, float) {
    const float difference = value - mean;
    squares += difference * difference;
  });
  const float variance = BlockSum(squares) / static_cast<float>(size);
  const float scale = rsqrtf(variance + args.epsilon);
  T* out = static_cast<T*>(args.out);
  for_each([&](int k, float value, float weight, float bias) {
    value = (value - mean) * scale * weight;
    if (args.bias != nullptr) value += bias;
    if (args.add_to == nullptr) {
      out[IndexOf(args, row, k)] = To<T>(value);
    } else {
      args.add_to[static_cast<int64_t>(row) * size + k] += value;
    }
  });
  const int k = size + threadIdx.x;  // the rest of the last step
  if (args.add_to == nullptr && k < padded) out[IndexOf(args, row, k)] = To<T>(0.0f);
}

// One element of a head before rotation.
struct HeadReader {
  const float* values;
  const float* norm;  // null: as it is
  float scale;

  __device__ __forceinline__ float operator()(int i) const {
    return norm == nullptr ? values[i] : values[i] * scale * norm[i];
  }
};

// By one warp.
__device__ HeadReader ReadHead(const float* values, const float* norm, const RotateArgs& args) {
  if (norm == nullptr) return {values, nullptr, 1.0f};
  float squares = 0;
  for (int i = threadIdx.x % 32; i < args.head_dim; i += 32) squares += values[i] * values[i];
  const float mean = WarpSum(squares) / static_cast<float>(args.head_dim);
  return {values, norm, rsqrtf(mean + args.epsilon)};
}

__device__ float Rotated(const HeadReader& head, int i, int32_t position, const RotateArgs& args) {
  if (i >= args.head_dim) return 0;
  if (args.cosines == nullptr || i >= 2 * args.half) return head(i);
  const int64_t pair = static_cast<int64_t>(position) * args.half + i % args.half;
  const float cosine = args.cosines[pair], sine = args.sines[pair];
  if (i < args.half) return head(i) * cosine - head(i + args.half) * sine;
  return head(i) * cosine + head(i - args.half) * sine;
}

// Zeroes the slots after `slot` of a head of K, which lie one after another.
template <typename T>
__device__ void ClearKeys(T* keys, int slot, int dim) {
  auto* words = reinterpret_cast<uint4*>(keys + (slot + 1) * dim);
  const int count = (15 - slot) * dim / 8;
  for (int i = threadIdx.x % 32; i < count; i += 32) words[i] = make_uint4(0, 0, 0, 0);
}

template <typename T>
__device__ void StoreKey(const RotateArgs& args, const float* head, int row, T* keys) {
  const HeadReader reader = ReadHead(head, args.k_norm, args);
  const int dim = args.kv.padded_dim, position = args.positions[row], slot = position % 16;
  for (int i = threadIdx.x % 32; i < dim; i += 32) {
    keys[slot * dim + i] = To<T>(Rotated(reader, i, position, args));
  }
  if (args.clears[row] != 0) ClearKeys(keys, slot, dim);
}

template <typename T>
__device__ void StoreValue(const RotateArgs& args, const float* head, int row, T* values) {
  const int slot = args.positions[row] % 16;
  const bool clears = args.clears[row] != 0;
  for (int i = threadIdx.x % 32; i < args.kv.padded_dim; i += 32) {
    const T value = To<T>(i < args.head_dim ? head[i] : 0.0f);
    if (clears && slot == 0) {  // the usual case, in two words
      auto* words = reinterpret_cast<uint4*>(values + i * 16);
      words[0] = make_uint4(reinterpret_cast<const uint16_t&>(value), 0, 0, 0);
      words[1] = make_uint4(0, 0, 0, 0);
      continue;
    }
    values[i * 16 + slot] = value;
    for (int s = slot + 1; clears && s < 16; ++s) values[i * 16 + s] = To<T>(0);
  }
}

// A warp takes some heads of a row: of q, then of K, then of V.
// A head that is neither rotated nor normed, by one warp: two dimensions a thread at a time.
template <typename T, typename Store>
__device__ __forceinline__ void ForEachPair(const RotateArgs& args, const float* head,
                                            const Store& store) {
  for (int i = 2 * (threadIdx.x % 32); i < args.kv.padded_dim; i += 64) {
    float2 pair = make_float2(0.0f, 0.0f);
    if (i < args.head_dim) pair = __ldg(reinterpret_cast<const float2*>(head + i));
    store(i, PackTwo<T>(pair.x, pair.y));
  }
}

template <typename T>
__device__ __forceinline__ void StorePlainHead(const RotateArgs& args, const float* head, int h,
                                               T* to, T* q) {
  if (h < args.heads) {
    ForEachPair<T>(args, head,
                   [&](int i, uint32_t word) { *reinterpret_cast<uint32_t*>(q + i) = word; });
    return;
  }
  const int slot = args.positions[blockIdx.x] % 16, dim = args.kv.padded_dim;
  const bool clears = args.clears[blockIdx.x] != 0;
  if (h < args.heads + args.kv_heads) {
    ForEachPair<T>(args, head, [&](int i, uint32_t word) {
      *reinterpret_cast<uint32_t*>(to + slot * dim + i) = word;
    });
    if (clears) ClearKeys(to, slot, dim);
    return;
  }
  ForEachPair<T>(args, head, [&](int i, uint32_t word) {
    auto* values = reinterpret_cast<uint16_t*>(to + i * 16);
    if (clears && slot == 0) {  // the usual case, in whole words
      auto* words = reinterpret_cast<uint4*>(values);
      words[0] = make_uint4(word & 0xffff, 0, 0, 0);
      words[2] = make_uint4(word >> 16, 0, 0, 0);
      words[1] = words[3] = make_uint4(0, 0, 0, 0);
      return;
    }
    values[slot] = static_cast<uint16_t>(word);
    values[16 + slot] = static_cast<uint16_t>(word >> 16);
    for (int s = slot + 1; clears && s < 16; ++s) values[s] = values[16 + s] = 0;
  });
}

template <typename T, bool kPlain>
__global__ void RotateAndStore(const RotateArgs args) {
  LetNextStart();
  WaitForPrevious();
  const int row = blockIdx.x, dim = args.kv.padded_dim;
  const int32_t block = args.blocks[row];
  if (block < 0) return;
  const int64_t first = static_cast<int64_t>(row) * (args.heads + 2 * args.kv_heads);
  const int64_t to = block * args.kv.block_stride;
  const int step = kWarps * gridDim.y;
#pragma unroll 2
  for (int h = blockIdx.y * kWarps + threadIdx.x / 32; h < args.heads + 2 * args.kv_heads;
       h += step) {
    const float* head = args.qkv + (first + h) * args.head_dim;
    const int key = h - args.heads, value = key - args.kv_heads;
    T* q = static_cast<T*>(args.q) + (static_cast<int64_t>(row) * args.heads + h) * dim;
    T* side = static_cast<T*>(value < 0 ? args.kv.keys : args.kv.values);
    T* slots = side + to + (value < 0 ? key : value) * 16 * dim;
    if (kPlain) {
      StorePlainHead(args, head, h, slots, q);
    } else if (key < 0) {
      const HeadReader reader = ReadHead(head, args.q_norm, args);
      for (int i = threadIdx.x % 32; i < dim; i += 32) {
        q[i] = To<T>(Rotated(reader, i, args.positions[row], args));
      }
    } else if (value < 0) {
      StoreKey(args, head, row, slots);
    } else {
      StoreValue(args, head, row, slots);
    }
  }
}

}  // namespace

cudaError_t LaunchEmbed(const EmbedArgs& args, cudaStream_t stream) {
  return WithHalf(args.embedding.type, [&](auto half) {
    const LaunchShape shape{dim3(args.rows), kThreads};
    return LaunchOverlapping(Embed<decltype(half)>, shape, args, stream);
  });
}

cudaError_t LaunchNorm(const NormArgs& args, cudaStream_t stream) {
  return WithHalf(args.type, [&](auto half) {
    const LaunchShape shape{dim3(args.rows), kThreads};
    using T = decltype(half);
    return args.size <= kKept * kThreads
               ? LaunchOverlapping(Normalize<T, true>, shape, args, stream)
               : LaunchOverlapping(Normalize<T, false>, shape, args, stream);
  });
}

cudaError_t LaunchRotateAndStore(const RotateArgs& args, cudaStream_t stream) {
  return WithHalf(args.kv.type, [&](auto half) {
    const int heads = args.heads + 2 * args.kv_heads;
    // Few rows are spread over many thread blocks; of many, starting those would take longest.
    const unsigned parts = args.rows > kThinRows ? 1 : (heads + kWarps - 1) / kWarps;
    const LaunchShape shape{dim3(args.rows, parts), kThreads};
    using T = decltype(half);
    const bool plain = args.cosines == nullptr && args.q_norm == nullptr && args.head_dim % 2 == 0;
    return plain ? LaunchOverlapping(RotateAndStore<T, true>, shape, args, stream)
                 : LaunchOverlapping(RotateAndStore<T, false>, shape, args, stream);
  });
}

}  // namespace reprise::cuda
