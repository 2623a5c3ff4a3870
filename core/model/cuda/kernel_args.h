// The arguments of the CUDA runner's kernels and their launches. Everything is a plain
// value; pointers are into device memory and rows are rows of the pass at hand.
//
// Exactness  an output row is a function of its own input row alone: how many rows run
//            together, and which kernel serves them, changes no bit. Products reduce in
//            slices of `steps_per_slice` steps, each in one chain of tensor-core
//            instructions, and add the slices up in order; attention does the same over
//            blocks of kKeyBlock keys from position 0. Compiled without contraction.
// Layouts    halves are fp16 or bf16. Depths are padded with zeros to whole steps.
//            Packed weights: [tile of 16 features][step of 32][2][lane][8], the fragments
//            of mma.m16n8k16 (packing.cuh); of a KV block: device_kv.h.
// Errors     launches return what cudaGetLastError says; nothing waits.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace reprise::cuda {

enum class HalfType { kFp16, kBf16 };

inline constexpr int kTileFeatures = 16;
inline constexpr int kStepDepth = 32;
inline constexpr int kPaddedTiles = 8;   // tiles of a packed matrix are a multiple of it
inline constexpr int kPaddedRows = 128;  // rows past the last one that a product may read
inline constexpr int kMaxSlices = 16;
inline constexpr int kMinSliceSteps = 4;
inline constexpr int kThinRows = 128;  // up to here products are bound by reading the weights
inline constexpr int kKeyBlock = 64;
inline constexpr int kMaxBanned = 8;  // ids that ArgMax leaves out, for each row

constexpr int Steps(int depth) { return (depth + kStepDepth - 1) / kStepDepth; }
constexpr int PaddedDepth(int depth) { return Steps(depth) * kStepDepth; }

// How a product of that many steps is cut: by its depth alone, after an even number of steps.
constexpr int StepsPerSlice(int steps) {
  const int least = (steps + 2 * kMaxSlices - 1) / (2 * kMaxSlices) * 2;
  return least > kMinSliceSteps ? least : kMinSliceSteps;
}

// How the rows that a product reads lie in memory.
//   kRows   [rows][depth], for kernels of mma.sync
//   kTiles  as wgmma reads them from shared memory (tiled_rows.cuh); depths are whole steps
enum class RowOrder { kRows, kTiles };

// Whether the current device and this build have the kernels that read RowOrder::kTiles.
cudaError_t HasTileProducts(bool* has);

struct PackedWeights {
  const void* data = nullptr;
  HalfType type = HalfType::kFp16;
  int32_t features = 0;  // of the output; gated: of the gate
  int32_t tiles = 0;
  int32_t steps = 0;
};

// Where a matrix's features go: one after another, or gates and ups in turns of 8, so that
// both of a pair meet in one thread.
enum class Interleave { kNone, kGate, kUp };

enum class Epilogue {
  kStore,      // y = sum
  kAdd,        // y += sum
  kGelu,       // out = gelu(sum), tanh approximation
  kGatedSilu,  // out = silu(gate) * up
  kGatedGelu,  // out = gelu(gate) * up
};

struct ProductArgs {
  PackedWeights weights;
  int32_t steps_per_slice = 0;
  RowOrder order = RowOrder::kRows;  // of x, and of out
  const void* x = nullptr;           // halves [rows + kPaddedRows][depth]
  int32_t rows = 0;
  const float* bias = nullptr;  // [tiles * 16] in packed order; null: none
  Epilogue epilogue = Epilogue::kStore;
  float* y = nullptr;   // kStore, kAdd: [rows][stride]
  void* out = nullptr;  // others: halves [rows][stride]
  int32_t stride = 0;
};
cudaError_t LaunchProduct(const ProductArgs& args, cudaStream_t stream);

struct PackArgs {
  const float* values = nullptr;  // [rows][depth]
  int32_t rows = 0, depth = 0;
  int32_t first_feature = 0;
  Interleave interleave = Interleave::kNone;
  HalfType type = HalfType::kFp16;
  int32_t steps = 0;
  void* packed = nullptr;
};
cudaError_t LaunchPack(const PackArgs& args, cudaStream_t stream);

struct EmbedArgs {
  const int32_t *tokens = nullptr, *positions = nullptr;  // [rows]
  PackedWeights embedding;
  const float* position_embedding = nullptr;  // null: rotary
  float scale = 1;
  int32_t hidden = 0, rows = 0;
  float* x = nullptr;  // [rows][hidden]
};
cudaError_t LaunchEmbed(const EmbedArgs& args, cudaStream_t stream);

struct NormArgs {
  const float* x = nullptr;                        // [...][size]
  const int32_t* source_rows = nullptr;            // which of x; null: row i
  const float *weight = nullptr, *bias = nullptr;  // bias null: RMSNorm
  float epsilon = 0;
  int32_t size = 0, rows = 0;
  HalfType type = HalfType::kFp16;
  RowOrder order = RowOrder::kRows;  // of out
  void* out = nullptr;               // halves [rows][PaddedDepth(size)]
  float* add_to = nullptr;           // instead of `out`: [rows][size] += norm(x)
};
cudaError_t LaunchNorm(const NormArgs& args, cudaStream_t stream);

// One layer of the KV pool.
struct KvLayer {
  HalfType type = HalfType::kFp16;
  void* keys = nullptr;      // halves of block 0, head 0: [16][padded_dim]
  void* values = nullptr;    // [padded_dim][16]
  int64_t block_stride = 0;  // halves from block to block
  int32_t padded_dim = 0;    // of a head; a multiple of kStepDepth
};

struct RotateArgs {
  const float* qkv = nullptr;  // [rows][(heads + 2 kv_heads) * head_dim]
  int32_t rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  const int32_t* positions = nullptr;                // [rows]
  const int32_t* blocks = nullptr;                   // [rows] of the KV; below 0: a row that pads
  const int32_t* clears = nullptr;                   // [rows] 1: zero the slots after the row's
  const float *cosines = nullptr, *sines = nullptr;  // [positions][half]; null: not rotary
  int32_t half = 0;
  const float *q_norm = nullptr, *k_norm = nullptr;  // [head_dim]; null: none
  float epsilon = 0;
  void* q = nullptr;  // halves of the KV's type, [rows][heads][padded_dim]
  KvLayer kv;
};
cudaError_t LaunchRotateAndStore(const RotateArgs& args, cudaStream_t stream);

// Up to 16 pairs of a row and a head that share a KV head; pair i of a piece of a sequence
// is its row i / group and head i % group.
struct AttentionTile {
  int32_t first_row = 0;       // of the piece, in the pass
  int32_t first_position = 0;  // of that row
  int32_t first_pair = 0;
  int32_t pairs = 0;  // 0: a tile that pads
  int32_t table = 0;  // where the piece's block table begins
};

// Tiles of long pieces have up to kWidePairs pairs instead, where heads are not too wide.
inline constexpr int kWidePairs = 64;
inline constexpr int kMaxWideDim = 128;

struct AttentionArgs {
  const AttentionTile* tiles = nullptr;
  int32_t num_tiles = 0;
  const AttentionTile* wide_tiles = nullptr;
  int32_t num_wide_tiles = 0;
  const int32_t* tables = nullptr;
  const void* q = nullptr;  // as RotateArgs
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
  KvLayer kv;
  int32_t window = 0;  // keys that a query sees; 0: all
  float scale = 1;     // of scores, times log2(e)
  HalfType out_type = HalfType::kFp16;
  RowOrder out_order = RowOrder::kRows;
  int32_t rows = 0;     // of the pass
  void* out = nullptr;  // halves [rows][out_stride]
  int32_t out_stride = 0;
};
// Over both kinds of tiles.
cudaError_t LaunchAttention(const AttentionArgs& args, cudaStream_t stream);
// Over the wide ones.
cudaError_t LaunchWideAttention(const AttentionArgs& args, cudaStream_t stream);

struct ArgMaxArgs {
  const float* logits = nullptr;  // [rows][vocabulary]
  int32_t rows = 0, vocabulary = 0;
  const int32_t* banned = nullptr;  // [rows][kMaxBanned]; -1: none
  int32_t* ids = nullptr;           // [rows]
};
cudaError_t LaunchArgMax(const ArgMaxArgs& args, cudaStream_t stream);

// Copies the first `tokens` slots of every head of a block; the others become zero.
struct CopySlotsArgs {
  const void* from = nullptr;
  void* to = nullptr;
  int32_t heads = 0;  // of all layers, K and V apart; they lie [layer][K, V][kv_head]
  int32_t kv_heads = 0, padded_dim = 0, tokens = 0;
};
cudaError_t LaunchCopySlots(const CopySlotsArgs& args, cudaStream_t stream);

// The arithmetic that a test may plant wrong.
struct Kernels {
  cudaError_t (*product)(const ProductArgs&, cudaStream_t) = LaunchProduct;
  cudaError_t (*attention)(const AttentionArgs&, cudaStream_t) = LaunchAttention;
};

// Architecture that the kernels' machine code was made for: 75, 90.
cudaError_t GetCodeArchitecture(int* architecture);

}  // namespace reprise::cuda
