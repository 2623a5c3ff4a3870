// Kernels: the arithmetic of the CPU runner for one instruction set.
//
// Every output element is one chain of operations whose order depends only on
// the shape of its own row and on absolute positions: never on how many rows
// there are, which row it is, or which thread runs it.
//
// Layouts    matrices are row-major. A PackedMatrix holds W[n][k] as panels of
//            `panel_columns` output features: [panel][k][panel_columns].
// Threading  pure functions over disjoint outputs; safe in parallel.
// Source     panel packing: Goto and van de Geijn 2008. Online softmax is not
//            used: two passes over the keys keep one order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/ids.h"
#include "core/model/model_config.h"

namespace reprise {

// One panel of a packed weight matrix against all rows.
struct PanelProduct {
  const float* x = nullptr;  // [rows][x_stride], first `depth` of each row are read
  size_t x_stride = 0;
  size_t rows = 0;
  size_t depth = 0;             // K
  const void* panel = nullptr;  // [depth][panel_columns] of dtype
  Dtype dtype = Dtype::kFloat32;
  const float* bias = nullptr;  // [columns], may be null
  float* y = nullptr;           // [rows][y_stride], at the panel's first column
  size_t y_stride = 0;
  size_t columns = 0;       // of this panel that exist; <= panel_columns
  bool accumulate = false;  // y += instead of y =
};

// Attention of up to kAttentionRows consecutive rows of one sequence, for the
// query heads that share one KV head.
struct AttentionTile {
  const float* q = nullptr;  // [rows][q_stride], at the group's first head
  size_t q_stride = 0;
  size_t rows = 0;
  size_t group = 0;  // query heads per KV head
  size_t head_dim = 0;
  int32_t first_position = 0;                  // of row 0; row r sees keys [0, first_position + r]
  const uint8_t* const* key_blocks = nullptr;  // [blocks] -> [kBlockTokens][head_dim] of kv_dtype
  const uint8_t* const* value_blocks = nullptr;  // likewise
  Dtype kv_dtype = Dtype::kFloat32;
  float scale = 1.0f;
  float* scratch = nullptr;  // AttentionScratchFloats() long, 64-byte aligned
  float* out = nullptr;      // [rows][out_stride], at the group's first head
  size_t out_stride = 0;
};

inline constexpr size_t kAttentionRows = 16;

// Floats of scratch for tiles up to `last_position`.
size_t AttentionScratchFloats(size_t group, size_t head_dim, int32_t last_position);

struct Kernels {
  const char* instruction_set;
  size_t panel_columns;
  void (*multiply_panel)(const PanelProduct&);
  void (*attend)(const AttentionTile&);
  // One row of `size` floats; x and y may be the same.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, size_t size, float* y);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon,
                     size_t size, float* y);
  void (*silu_multiply)(float* gate, const float* up, size_t size);  // gate = silu(gate) * up
  void (*gelu)(float* x, size_t size);                               // tanh approximation, in place
};

// The kernels of `name` ("avx512", "avx2", "portable"), or the best this CPU
// runs for an empty name. Null when the name is unknown or the CPU lacks it.
const Kernels* SelectKernels(const char* name);

// Round to nearest even; NaN stays NaN.
uint16_t ToBfloat16(float value);
float FromBfloat16(uint16_t bits);

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
