// Causal attention over paged keys and values. Scores of a tile are a product
// with the transposed keys; every query's values add up in order of position,
// whichever of the two loops takes them.
#pragma once

#include <type_traits>

#include "core/model/rows-inl.h"

namespace reprise {
namespace REPRISE_KERNELS_NAME {
namespace {

constexpr float kMasked = -1e30f;  // exp of it is exactly zero
constexpr size_t kKeyPanel = kPanelColumns;
constexpr size_t kValuePanel = 64;  // keys whose values are widened at a time
// With fewer queries, widening the values first costs more than it saves.
constexpr size_t kFewQueries = 4;

// See AttentionScratchFloats.
struct TileScratch {
  explicit TileScratch(const AttentionTile& t)
      : queries(t.rows * t.group),
        keys(RoundUp(t.first_position + t.rows, kKeyPanel)),
        padded_dim(RoundUp(t.head_dim, kPanelColumns)),
        panel(t.scratch),
        query(panel + kValuePanel * padded_dim),
        sums(query + queries * padded_dim),
        inverse(sums + queries * padded_dim),
        scores(inverse + RoundUp(queries, 16)) {}

  size_t queries;     // row-major: [rows][group]
  size_t keys;        // padded to whole panels
  size_t padded_dim;  // to whole panels
  float* panel;       // transposed keys [head_dim][kKeyPanel] or values [kValuePanel][padded_dim]
  float* query;       // [queries] prepared rows
  float* sums;        // [queries][padded_dim]
  float* inverse;     // [queries], of the softmax's denominator
  float* scores;      // [queries][keys]
};

HWY_INLINE V LoadKv(const float* from) { return hn::LoadU(D(), from); }
HWY_INLINE V LoadKv(const hwy::float16_t* from) {
  return LoadFloat16(reinterpret_cast<const uint8_t*>(from));
}
HWY_INLINE V LoadKv(const uint16_t* from) {
  return LoadBfloat16(reinterpret_cast<const uint8_t*>(from));
}

// The first `count` lanes, the others zero.
template <typename Kv>
HWY_INLINE V LoadFirstKv(const Kv* from, size_t count) {
  if (count >= kLanes) return LoadKv(from);
  alignas(64) Kv lanes[kLanes] = {};
  std::memcpy(lanes, from, count * sizeof(Kv));
  return LoadKv(lanes);
}

// Blocks lie far apart, so the hardware does not foresee the next one.
HWY_INLINE void PrefetchBlock(const uint8_t* block, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(block + at);
}

// from[kBlockTokens][width] words to to[width][kKeyPanel], in squares of four.
void Transpose(const uint32_t* from, size_t width, uint32_t* to) {
  for (size_t j = 0; j < kBlockTokens; j += 4) {
    const uint32_t* rows = from + j * width;
    size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
    const hn::FixedTag<uint32_t, 4> d;
    const hn::FixedTag<uint64_t, 2> d64;
    for (; i + 4 <= width; i += 4) {
      const auto a = hn::LoadU(d, rows + i);
      const auto b = hn::LoadU(d, rows + width + i);
      const auto c = hn::LoadU(d, rows + 2 * width + i);
      const auto e = hn::LoadU(d, rows + 3 * width + i);
      const auto ab = hn::BitCast(d64, hn::InterleaveLower(d, a, b));
      const auto ce = hn::BitCast(d64, hn::InterleaveLower(d, c, e));
      const auto ab_high = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
      const auto ce_high = hn::BitCast(d64, hn::InterleaveUpper(d, c, e));
      uint32_t* square = to + i * kKeyPanel + j;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab, ce)), d, square);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab, ce)), d, square + kKeyPanel);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab_high, ce_high)), d,
                 square + 2 * kKeyPanel);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab_high, ce_high)), d,
                 square + 3 * kKeyPanel);
    }
#endif
    for (; i < width; ++i) {
      for (size_t r = 0; r < 4; ++r) to[i * kKeyPanel + j + r] = rows[r * width + i];
    }
  }
}

// Keys of one block into half a panel: pairs of bf16 as they are, others as fp32.
template <typename Kv>
HWY_INLINE void PackKeys(const uint8_t* block, size_t head_dim, float* to) {
  auto* words = reinterpret_cast<uint32_t*>(to);
  if constexpr (sizeof(Kv) == sizeof(float)) {
    return Transpose(reinterpret_cast<const uint32_t*>(block), head_dim, words);
  }
  const auto* from = reinterpret_cast<const Kv*>(block);
  for (size_t j = 0; j < kBlockTokens; ++j) {
    for (size_t i = 0; i < head_dim; i += kLanes) {
      alignas(64) float lanes[kLanes];
      hn::Store(LoadFirstKv(from + j * head_dim + i, head_dim - i), D(), lanes);
      for (size_t n = 0; n < kLanes && i + n < head_dim; ++n)
        to[(i + n) * kKeyPanel + j] = lanes[n];
    }
  }
}

// Scores of all queries against every key, masked past each row's own position
// as far as whole vectors are read.
// kPairs: bf16 keys whose transposed pairs are a bf16 weight panel.
template <typename Kv, bool kPairs>
void ScoreKeys(const AttentionTile& t, const TileScratch& s) {
  using Weights = std::conditional_t<kPairs, Bf16Weights, Fp32Weights>;
  PanelProduct product;
  product.x = reinterpret_cast<const uint8_t*>(s.query);
  product.x_stride = s.padded_dim * sizeof(float);
  product.rows = s.queries;
  product.depth = t.head_dim;
  product.panel = reinterpret_cast<const uint8_t*>(s.panel);
  product.y_stride = s.keys;
  product.columns = kKeyPanel;
  const size_t end = t.first_position + t.rows;
  const size_t block_bytes = kBlockTokens * t.head_dim * sizeof(Kv);
  for (size_t first = 0; first < end; first += kKeyPanel) {
    for (size_t key = first; key < first + kKeyPanel && key < end; key += kBlockTokens) {
      const uint8_t* block = t.key_blocks[key / kBlockTokens];
      if (key + kKeyPanel < end) {
        PrefetchBlock(t.key_blocks[(key + kKeyPanel) / kBlockTokens], block_bytes);
      }
      if constexpr (kPairs) {
        Transpose(reinterpret_cast<const uint32_t*>(block), t.head_dim / 2,
                  reinterpret_cast<uint32_t*>(s.panel) + (key - first));
      } else {
        PackKeys<Kv>(block, t.head_dim, s.panel + (key - first));
      }
    }
    product.y = s.scores + first;
    MultiplyFloatPanel<Weights>(product);
  }
  for (size_t q = 0; q < s.queries; ++q) {
    float* scores = s.scores + q * s.keys;
    const size_t visible = t.first_position + q / t.group + 1;
    for (size_t j = visible; j < RoundUp(visible, kLanes); ++j) scores[j] = kMasked;
  }
}

// exp(score - largest) in place over [0, visible); returns one over their sum.
float Softmax(float* scores, size_t visible) {
  const D d;
  const size_t end = RoundUp(visible, kLanes);  // past it all is masked
  V largest = hn::Set(d, kMasked);
  for (size_t j = 0; j < end; j += kLanes) largest = hn::Max(largest, hn::LoadU(d, scores + j));
  largest = hn::MaxOfLanes(d, largest);
  V sum = hn::Zero(d);
  for (size_t j = 0; j < end; j += kLanes) {
    const V e = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + j), largest));
    hn::StoreU(e, d, scores + j);
    sum = hn::Add(sum, e);
  }
  return 1.0f / hn::GetLane(hn::SumOfLanes(d, sum));
}

// Adds `keys` widened values to a tile of queries; `weights` is at the first of them.
template <size_t kRows>
HWY_INLINE void AddValueTile(const TileScratch& s, const float* weights, size_t keys, float* sums) {
  for (size_t i = 0; i < s.padded_dim; i += kTileColumns) {
    V sum[kRows][kVectors];
#pragma GCC unroll 16
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v) {
        sum[r][v] = hn::LoadU(D(), sums + r * s.padded_dim + i + v * kLanes);
      }
    }
    for (size_t j = 0; j < keys; ++j) {
      V value[kVectors];
      for (size_t v = 0; v < kVectors; ++v) {
        value[v] = hn::LoadU(D(), s.panel + j * s.padded_dim + i + v * kLanes);
      }
#pragma GCC unroll 16
      for (size_t r = 0; r < kRows; ++r) {
        const V weight = hn::Set(D(), weights[r * s.keys + j]);
        for (size_t v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(weight, value[v], sum[r][v]);
      }
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v) {
        hn::StoreU(sum[r][v], D(), sums + r * s.padded_dim + i + v * kLanes);
      }
    }
  }
}

// Values of the keys [0, end), which every query sees.
template <typename Kv>
void AddSharedValues(const AttentionTile& t, const TileScratch& s, size_t end) {
  for (size_t first = 0; first < end; first += kValuePanel) {
    const size_t keys = HWY_MIN(kValuePanel, end - first);
    for (size_t j = 0; j < keys; ++j) {
      const size_t key = first + j;
      const auto* from = reinterpret_cast<const Kv*>(t.value_blocks[key / kBlockTokens]) +
                         key % kBlockTokens * t.head_dim;
      for (size_t i = 0; i < t.head_dim; i += kLanes) {
        hn::StoreU(LoadFirstKv(from + i, t.head_dim - i), D(), s.panel + j * s.padded_dim + i);
      }
    }
    ForEachRowTile<kFloatRows>(s.queries, [&]<size_t kRows>(Rows<kRows>, size_t q) {
      AddValueTile<kRows>(s, s.scores + q * s.keys + first, keys, s.sums + q * s.padded_dim);
    });
  }
}

// Values of the keys [first, visible) for dims [i, i + kWidth vectors) of one
// query. Slots past its own position may hold anything, NaN included.
template <typename Kv, size_t kWidth>
HWY_INLINE void AddOwnColumns(const AttentionTile& t, const float* weights, size_t first,
                              size_t visible, size_t i, float* sums) {
  V sum[kWidth];
  for (size_t v = 0; v < kWidth; ++v) sum[v] = hn::LoadU(D(), sums + i + v * kLanes);
  for (size_t j = first; j < visible; ++j) {
    const auto* from = reinterpret_cast<const Kv*>(t.value_blocks[j / kBlockTokens]) +
                       j % kBlockTokens * t.head_dim + i;
    if (j % kBlockTokens == 0 && j + kBlockTokens < visible) {
      PrefetchBlock(t.value_blocks[j / kBlockTokens + 1], kBlockTokens * t.head_dim * sizeof(Kv));
    }
    const V weight = hn::Set(D(), weights[j]);
    for (size_t v = 0; v < kWidth; ++v) {
      const V value = kWidth > 1 ? LoadKv(from + v * kLanes) : LoadFirstKv(from, t.head_dim - i);
      sum[v] = hn::MulAdd(weight, value, sum[v]);
    }
  }
  for (size_t v = 0; v < kWidth; ++v) hn::StoreU(sum[v], D(), sums + i + v * kLanes);
}

template <typename Kv>
void AddOwnValues(const AttentionTile& t, const float* weights, size_t first, size_t visible,
                  float* sums) {
  constexpr size_t kWidth = 4;  // vectors at once, to hide the latency of the chain
  size_t i = 0;
  for (; i + kWidth * kLanes <= t.head_dim; i += kWidth * kLanes) {
    AddOwnColumns<Kv, kWidth>(t, weights, first, visible, i, sums);
  }
  for (; i < t.head_dim; i += kLanes) AddOwnColumns<Kv, 1>(t, weights, first, visible, i, sums);
}

template <typename Kv>
void AttendOf(const AttentionTile& t) {
  const TileScratch s(t);
  constexpr bool kBfloat16 = std::is_same_v<Kv, uint16_t>;
  const bool pairs = kBfloat16 && t.head_dim % 2 == 0;
  const InputFormat input = pairs ? Bf16Weights::kInput : InputFormat::kFloat32;
  for (size_t q = 0; q < s.queries; ++q) {
    const float* from = t.q + q / t.group * t.q_stride + q % t.group * t.head_dim;
    float* scaled = s.sums;  // free until the values
    for (size_t i = 0; i < t.head_dim; ++i) scaled[i] = from[i] * t.scale;
    PrepareRow(input, scaled, t.head_dim, reinterpret_cast<uint8_t*>(s.query + q * s.padded_dim));
  }
  if (pairs) {
    ScoreKeys<Kv, kBfloat16>(t, s);
  } else {
    ScoreKeys<Kv, false>(t, s);
  }
  std::memset(s.sums, 0, s.queries * s.padded_dim * sizeof(float));
  const size_t shared = s.queries < kFewQueries ? 0 : t.first_position + 1;
  for (size_t q = 0; q < s.queries; ++q) {
    s.inverse[q] = Softmax(s.scores + q * s.keys, t.first_position + q / t.group + 1);
  }
  AddSharedValues<Kv>(t, s, shared);
  for (size_t q = 0; q < s.queries; ++q) {
    float* sums = s.sums + q * s.padded_dim;
    AddOwnValues<Kv>(t, s.scores + q * s.keys, shared, t.first_position + q / t.group + 1, sums);
    float* out = t.out + q / t.group * t.out_stride + q % t.group * t.head_dim;
    for (size_t i = 0; i < t.head_dim; ++i) out[i] = sums[i] * s.inverse[q];
  }
}

void Attend(const AttentionTile& t) {
  switch (t.kv_dtype) {
    case Dtype::kFloat32:
      return AttendOf<float>(t);
    case Dtype::kBfloat16:
      return AttendOf<uint16_t>(t);
    case Dtype::kFloat16:
      return AttendOf<hwy::float16_t>(t);
  }
}

}  // namespace
}  // namespace REPRISE_KERNELS_NAME
}  // namespace reprise
