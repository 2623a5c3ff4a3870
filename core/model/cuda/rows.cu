// Kernels that work on rows: embedding and norms. Sums go over fixed lanes and then over a
// fixed tree.
#include "core/model/cuda/launch.cuh"
#include "core/model/cuda/mma.cuh"
#include "core/model/cuda/packing.cuh"

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

template <typename T>
__global__ void Normalize(const NormArgs args) {
  LetNextStart();
  WaitForPrevious();
  const int row = blockIdx.x, size = args.size;
  const int64_t source = args.source_rows != nullptr ? args.source_rows[row] : row;
  const float* x = args.x + source * size;
  float sum = 0, squares = 0, mean = 0;
  if (args.bias != nullptr) {
    for (int k = threadIdx.x; k < size; k += kThreads) sum += x[k];
    mean = BlockSum(sum) / static_cast<float>(size);
  }
  for (int k = threadIdx.x; k < size; k += kThreads) {
    const float difference = x[k] - mean;
    squares += difference * difference;
  }
  const float variance = BlockSum(squares) / static_cast<float>(size);
  const float scale = rsqrtf(variance + args.epsilon);
  const int padded = PaddedDepth(size);
  T* out = static_cast<T*>(args.out) + static_cast<int64_t>(row) * padded;
  for (int k = threadIdx.x; k < padded; k += kThreads) {
    float value = 0;
    if (k < size) {
      value = (x[k] - mean) * scale * args.weight[k];
      if (args.bias != nullptr) value += args.bias[k];
    }
    if (args.add_to == nullptr) {
      out[k] = To<T>(value);
    } else if (k < size) {
      args.add_to[static_cast<int64_t>(row) * size + k] += value;
    }
  }
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

// A warp takes one head of a row: of q, then of K, then of V.
template <typename T>
__global__ void RotateAndStore(const RotateArgs args) {
  LetNextStart();
  WaitForPrevious();
  const int row = blockIdx.x, h = blockIdx.y * kWarps + threadIdx.x / 32;
  const int32_t block = args.blocks[row];
  if (block < 0 || h >= args.heads + 2 * args.kv_heads) return;
  const int dim = args.kv.padded_dim;
  const int64_t first = static_cast<int64_t>(row) * (args.heads + 2 * args.kv_heads);
  const float* head = args.qkv + (first + h) * args.head_dim;
  const int64_t to = block * args.kv.block_stride;
  const int key = h - args.heads, value = key - args.kv_heads;
  if (key < 0) {
    const HeadReader reader = ReadHead(head, args.q_norm, args);
    T* q = static_cast<T*>(args.q) + (static_cast<int64_t>(row) * args.heads + h) * dim;
    for (int i = threadIdx.x % 32; i < dim; i += 32) {
      q[i] = To<T>(Rotated(reader, i, args.positions[row], args));
    }
  } else if (value < 0) {
    StoreKey(args, head, row, static_cast<T*>(args.kv.keys) + to + key * 16 * dim);
  } else {
    StoreValue(args, head, row, static_cast<T*>(args.kv.values) + to + value * 16 * dim);
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
    return LaunchOverlapping(Normalize<decltype(half)>, shape, args, stream);
  });
}

cudaError_t LaunchRotateAndStore(const RotateArgs& args, cudaStream_t stream) {
  return WithHalf(args.kv.type, [&](auto half) {
    const int heads = args.heads + 2 * args.kv_heads;
    const LaunchShape shape{dim3(args.rows, (heads + kWarps - 1) / kWarps), kThreads};
    return LaunchOverlapping(RotateAndStore<decltype(half)>, shape, args, stream);
  });
}

}  // namespace reprise::cuda
