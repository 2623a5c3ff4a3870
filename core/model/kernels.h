// Kernels: the arithmetic of the CPU runner for one instruction set.
//
// Every output element is one chain of operations whose order depends only on
// the shape of its own row and on absolute positions: never on how many rows
// there are, which row it is, or which thread runs it.
//
// Layouts    matrices are row-major; packed weights as weight_format.h says.
// Threading  pure functions over disjoint outputs; safe in parallel.
// Source     panel packing: Goto and van de Geijn 2008. Online softmax is not
//            used: two passes over the keys keep one order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/ids.h"
#include "core/model/model_config.h"
#include "core/model/weight_format.h"

namespace reprise {

// One panel of a packed weight matrix against rows of a prepared input.
struct PanelProduct {
  const uint8_t* x = nullptr;  // [rows] records of the format's input
  size_t x_stride = 0;         // bytes
  size_t rows = 0;
  size_t depth = 0;  // K
  const uint8_t* panel = nullptr;
  WeightFormat format = WeightFormat::kFp32;
  const float* bias = nullptr;  // [columns], may be null
  float* y = nullptr;           // [rows][y_stride], at the panel's first column
  size_t y_stride = 0;
  size_t columns = 0;       // of this panel that exist; <= kPanelColumns
  bool accumulate = false;  // y += instead of y =
};

// Attention of consecutive rows of one sequence, for the query heads that share one KV head,
// or of one row for several KV heads. At most kAttentionQueries queries, or one row's of one
// KV head.
struct AttentionTile {
  const float* q = nullptr;  // [rows][q_stride], at the group's first head
  size_t q_stride = 0;
  size_t rows = 0;
  size_t heads = 1;  // KV heads, which follow each other; 1 with several rows
  size_t group = 0;  // query heads per KV head
  size_t head_dim = 0;
  int32_t first_position = 0;                  // of row 0; row r sees keys up to first_position + r
  int32_t window = 0;                          // the last so many of them; 0: all
  const uint8_t* const* key_blocks = nullptr;  // [blocks] -> keys of the first head, see kv_pool.h
  const uint8_t* const* value_blocks = nullptr;  // likewise
  Dtype kv_dtype = Dtype::kFloat32;
  float scale = 1.0f;
  float* scratch = nullptr;  // AttentionScratchFloats() long, 64-byte aligned
  float* out = nullptr;      // [rows][out_stride], at the group's first head
  size_t out_stride = 0;
};

// What rows of scratch are padded to.
inline constexpr size_t kAttentionPadding = 64;

// Of one tile: enough to reuse what is read of the keys, few enough to keep their scores in
// cache.
inline constexpr size_t kAttentionQueries = 48;

// How many rows, or KV heads of one row, a tile takes.
size_t AttentionRows(size_t group);

// Floats of scratch for tiles up to `last_position`.
size_t AttentionScratchFloats(size_t group, size_t head_dim, int32_t last_position);

struct Kernels {
  const char* instruction_set;
  // How products with weights of a format read their input.
  InputFormat (*input_format)(WeightFormat);
  // Writes one row of `depth` floats as a record of InputRowBytes() bytes.
  void (*prepare_row)(InputFormat, const float* x, size_t depth, uint8_t* out);
  // Rounds a row of `size` floats to the KV dtype.
  void (*round_row)(Dtype, const float* x, size_t size, uint8_t* out);
  void (*multiply_panel)(const PanelProduct&);
  void (*attend)(const AttentionTile&);
  // One row of `size` floats; x and y may be the same.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, size_t size, float* y);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon,
                     size_t size, float* y);
  void (*silu_multiply)(float* gate, const float* up, size_t size);  // gate = silu(gate) * up
  void (*gelu)(float* x, size_t size);                               // tanh approximation, in place
};

// The kernels of `name` ("avx512bf16", "avx512", "avx2", "portable"), or the best
// this CPU runs for an empty name. Null when the name is unknown or the CPU lacks it.
const Kernels* SelectKernels(const char* name);

// Sets flush-to-zero and denormals-are-zero for this thread while alive.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned saved_;
};

}  // namespace reprise
