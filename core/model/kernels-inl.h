// The kernels' one source, compiled once per instruction set: each including
// file defines REPRISE_KERNELS_NAME and is built with its own flags. Highway's
// static target follows those flags and names its own inner namespace, so the
// copies never meet in the linker.
#include <hwy/highway.h>
// Highway's maths must see the target chosen above.
#include <hwy/contrib/math/math-inl.h>

#include <cmath>
#include <cstring>

#include "core/model/kernels.h"

namespace reprise {
namespace REPRISE_KERNELS_NAME {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr size_t kLanes = HWY_LANES(float);
constexpr size_t kPanelVectors = kLanes >= 16 ? 4 : 2;
constexpr size_t kPanelColumns = kPanelVectors * kLanes;
constexpr size_t kRowTile = 6;
constexpr float kMasked = -1e30f;  // exp of it is exactly zero

HWY_INLINE V LoadWeights(D d, const float* from) { return hn::LoadU(d, from); }

HWY_INLINE V LoadWeights(D d, const uint16_t* from) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, from))));
}

// Rows [row, row + kRows) of the product. One multiply-add chain over k for each
// element, the same for every kRows.
template <size_t kRows, typename Weight>
HWY_INLINE void MultiplyRows(const PanelProduct& p, size_t row) {
  const D d;
  V sum[kRows][kPanelVectors];
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kPanelVectors; ++v) sum[r][v] = hn::Zero(d);
  }
  const float* x = p.x + row * p.x_stride;
  const Weight* w = static_cast<const Weight*>(p.panel);
  for (size_t k = 0; k < p.depth; ++k, w += kPanelColumns) {
    V weights[kPanelVectors];
    for (size_t v = 0; v < kPanelVectors; ++v) weights[v] = LoadWeights(d, w + v * kLanes);
    for (size_t r = 0; r < kRows; ++r) {
      const V value = hn::Set(d, x[r * p.x_stride + k]);
      for (size_t v = 0; v < kPanelVectors; ++v) {
        sum[r][v] = hn::MulAdd(value, weights[v], sum[r][v]);
      }
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    alignas(64) float row_sum[kPanelColumns] = {};
    for (size_t v = 0; v < kPanelVectors; ++v) hn::Store(sum[r][v], d, row_sum + v * kLanes);
    float* y = p.y + (row + r) * p.y_stride;
    for (size_t c = 0; c < p.columns; ++c) {
      const float value = p.bias != nullptr ? row_sum[c] + p.bias[c] : row_sum[c];
      y[c] = p.accumulate ? y[c] + value : value;
    }
  }
}

template <typename Weight>
void MultiplyPanelOf(const PanelProduct& p) {
  size_t row = 0;
  for (; row + kRowTile <= p.rows; row += kRowTile) MultiplyRows<kRowTile, Weight>(p, row);
  switch (p.rows - row) {
    case 1:
      return MultiplyRows<1, Weight>(p, row);
    case 2:
      return MultiplyRows<2, Weight>(p, row);
    case 3:
      return MultiplyRows<3, Weight>(p, row);
    case 4:
      return MultiplyRows<4, Weight>(p, row);
    case 5:
      return MultiplyRows<5, Weight>(p, row);
    default:
      return;
  }
}

void MultiplyPanel(const PanelProduct& p) {
  if (p.dtype == Dtype::kBfloat16) return MultiplyPanelOf<uint16_t>(p);
  MultiplyPanelOf<float>(p);
}

size_t RoundUp(size_t value, size_t to) { return (value + to - 1) / to * to; }

float LoadKv(const uint8_t* from, size_t index, Dtype dtype) {
  if (dtype == Dtype::kFloat32) return reinterpret_cast<const float*>(from)[index];
  const uint32_t bits = uint32_t{reinterpret_cast<const uint16_t*>(from)[index]} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Scratch of one tile: scores of all its query rows, then one block of keys
// ([head_dim][kBlockTokens], transposed) or values ([kBlockTokens][padded dim]).
struct TileScratch {
  explicit TileScratch(const AttentionTile& t)
      : keys(RoundUp(t.first_position + t.rows, kBlockTokens)),
        padded_dim(RoundUp(t.head_dim, 16)),
        scores(t.scratch),
        block(t.scratch + t.rows * t.group * keys),
        sums(block + kBlockTokens * padded_dim) {}

  size_t keys;        // padded to whole blocks
  size_t padded_dim;  // to whole vectors of any width
  float* scores;      // [rows * group][keys]
  float* block;
  float* sums;  // [rows * group][padded_dim]
};

void ScoreBlock(const AttentionTile& t, const TileScratch& s, size_t block) {
  const D d;
  for (size_t j = 0; j < kBlockTokens; ++j) {
    for (size_t i = 0; i < t.head_dim; ++i) {
      s.block[i * kBlockTokens + j] = LoadKv(t.key_blocks[block], j * t.head_dim + i, t.kv_dtype);
    }
  }
  const size_t first_key = block * kBlockTokens;
  for (size_t r = 0; r < t.rows; ++r) {
    const size_t visible = t.first_position + r + 1;
    for (size_t g = 0; g < t.group; ++g) {
      const float* q = t.q + r * t.q_stride + g * t.head_dim;
      float* scores = s.scores + (r * t.group + g) * s.keys + first_key;
      for (size_t j = 0; j < kBlockTokens; j += kLanes) {
        V sum = hn::Zero(d);
        for (size_t i = 0; i < t.head_dim; ++i) {
          sum = hn::MulAdd(hn::Set(d, q[i]), hn::Load(d, s.block + i * kBlockTokens + j), sum);
        }
        hn::Store(hn::Mul(sum, hn::Set(d, t.scale)), d, scores + j);
      }
      for (size_t j = 0; j < kBlockTokens; ++j) {
        if (first_key + j >= visible) scores[j] = kMasked;
      }
    }
  }
}

// Softmax over keys [0, visible); lanes past it are masked and become zero.
void Softmax(float* scores, size_t visible) {
  const D d;
  const size_t end = RoundUp(visible, kBlockTokens);
  V largest = hn::Set(d, kMasked);
  for (size_t j = 0; j < end; j += kLanes) largest = hn::Max(largest, hn::Load(d, scores + j));
  largest = hn::MaxOfLanes(d, largest);
  V sum = hn::Zero(d);
  for (size_t j = 0; j < end; j += kLanes) {
    const V e = hn::Exp(d, hn::Sub(hn::Load(d, scores + j), largest));
    hn::Store(e, d, scores + j);
    sum = hn::Add(sum, e);
  }
  const V inverse = hn::Div(hn::Set(d, 1.0f), hn::SumOfLanes(d, sum));
  for (size_t j = 0; j < end; j += kLanes) {
    hn::Store(hn::Mul(hn::Load(d, scores + j), inverse), d, scores + j);
  }
}

void AddValues(const AttentionTile& t, const TileScratch& s, size_t block) {
  const D d;
  for (size_t j = 0; j < kBlockTokens; ++j) {
    float* row = s.block + j * s.padded_dim;
    for (size_t i = 0; i < t.head_dim; ++i) {
      row[i] = LoadKv(t.value_blocks[block], j * t.head_dim + i, t.kv_dtype);
    }
    for (size_t i = t.head_dim; i < s.padded_dim; ++i) row[i] = 0.0f;
  }
  const size_t first_key = block * kBlockTokens;
  for (size_t r = 0; r < t.rows; ++r) {
    const size_t visible = t.first_position + r + 1;
    if (visible <= first_key) continue;
    // Slots past the row's own position may hold anything, NaN included.
    const size_t keys = HWY_MIN(visible - first_key, size_t{kBlockTokens});
    for (size_t g = 0; g < t.group; ++g) {
      const float* weights = s.scores + (r * t.group + g) * s.keys + first_key;
      float* sums = s.sums + (r * t.group + g) * s.padded_dim;
      for (size_t i = 0; i < s.padded_dim; i += kLanes) {
        V sum = hn::Load(d, sums + i);
        for (size_t j = 0; j < keys; ++j) {
          sum =
              hn::MulAdd(hn::Set(d, weights[j]), hn::Load(d, s.block + j * s.padded_dim + i), sum);
        }
        hn::Store(sum, d, sums + i);
      }
    }
  }
}

void Attend(const AttentionTile& t) {
  const TileScratch s(t);
  const size_t blocks = s.keys / kBlockTokens;
  for (size_t block = 0; block < blocks; ++block) ScoreBlock(t, s, block);
  for (size_t r = 0; r < t.rows; ++r) {
    for (size_t g = 0; g < t.group; ++g) {
      Softmax(s.scores + (r * t.group + g) * s.keys, t.first_position + r + 1);
    }
  }
  std::memset(s.sums, 0, t.rows * t.group * s.padded_dim * sizeof(float));
  for (size_t block = 0; block < blocks; ++block) AddValues(t, s, block);
  for (size_t r = 0; r < t.rows; ++r) {
    for (size_t g = 0; g < t.group; ++g) {
      std::memcpy(t.out + r * t.out_stride + g * t.head_dim,
                  s.sums + (r * t.group + g) * s.padded_dim, t.head_dim * sizeof(float));
    }
  }
}

// Calls `body` with each vector of `size` floats; the tail is padded with zeros
// so that it takes the same instructions as the rest.
template <typename Body>
HWY_INLINE void ForEachVector(const float* x, size_t size, Body body) {
  const D d;
  size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) body(hn::LoadU(d, x + i), i, kLanes);
  if (i == size) return;
  alignas(64) float tail[kLanes] = {};
  std::memcpy(tail, x + i, (size - i) * sizeof(float));
  body(hn::Load(d, tail), i, size - i);
}

HWY_INLINE void StoreFirst(V value, float* to, size_t count) {
  const D d;
  if (count == kLanes) return hn::StoreU(value, d, to);
  alignas(64) float lanes[kLanes];
  hn::Store(value, d, lanes);
  std::memcpy(to, lanes, count * sizeof(float));
}

void RmsNorm(const float* x, const float* weight, float epsilon, size_t size, float* y) {
  const D d;
  V squares = hn::Zero(d);
  ForEachVector(x, size, [&](V v, size_t, size_t) { squares = hn::MulAdd(v, v, squares); });
  const float mean = hn::GetLane(hn::SumOfLanes(d, squares)) / static_cast<float>(size);
  const float inverse = 1.0f / std::sqrt(mean + epsilon);
  for (size_t i = 0; i < size; ++i) y[i] = x[i] * inverse * weight[i];
}

void LayerNorm(const float* x, const float* weight, const float* bias, float epsilon, size_t size,
               float* y) {
  const D d;
  V sum = hn::Zero(d);
  ForEachVector(x, size, [&](V v, size_t, size_t) { sum = hn::Add(sum, v); });
  const float mean = hn::GetLane(hn::SumOfLanes(d, sum)) / static_cast<float>(size);
  const V center = hn::Set(d, mean);
  V squares = hn::Zero(d);
  ForEachVector(x, size, [&](V v, size_t, size_t count) {
    const V delta = hn::IfThenElseZero(hn::FirstN(d, count), hn::Sub(v, center));
    squares = hn::MulAdd(delta, delta, squares);
  });
  const float variance = hn::GetLane(hn::SumOfLanes(d, squares)) / static_cast<float>(size);
  const float inverse = 1.0f / std::sqrt(variance + epsilon);
  for (size_t i = 0; i < size; ++i) y[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
}

void SiluMultiply(float* gate, const float* up, size_t size) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  ForEachVector(gate, size, [&](V g, size_t i, size_t count) {
    // Exp is defined up to 104; past 88 the quotient is zero either way.
    const V silu = hn::Div(g, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(g), hn::Set(d, 88.0f)))));
    StoreFirst(silu, gate + i, count);
  });
  for (size_t i = 0; i < size; ++i) gate[i] *= up[i];
}

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), tanh through exp so that it
// saturates without overflow.
void Gelu(float* x, size_t size) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  const V two = hn::Set(d, 2.0f);
  ForEachVector(x, size, [&](V v, size_t i, size_t count) {
    const V cube = hn::Mul(hn::Mul(v, v), v);
    const V inner =
        hn::Mul(hn::Set(d, 0.7978845608028654f), hn::MulAdd(hn::Set(d, 0.044715f), cube, v));
    const V e = hn::Exp(d, hn::Mul(two, hn::Min(inner, hn::Set(d, 15.0f))));
    const V tanh = hn::Sub(one, hn::Div(two, hn::Add(e, one)));
    StoreFirst(hn::Mul(hn::Mul(hn::Set(d, 0.5f), v), hn::Add(one, tanh)), x + i, count);
  });
}

}  // namespace

Kernels Table(const char* name) {
  return {name, kPanelColumns, MultiplyPanel, Attend, RmsNorm, LayerNorm, SiluMultiply, Gelu};
}

}  // namespace REPRISE_KERNELS_NAME
}  // namespace reprise
