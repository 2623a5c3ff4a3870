// Causal attention over paged keys and values. Keys and values lie in their blocks
// as the products' weights do (kv_pool.h), so scores and sums of values are products
// of the queries with them, in order of position whatever the tile.
#pragma once

#include "core/model/rows-inl.h"

namespace reprise {
namespace REPRISE_KERNELS_NAME {
namespace {

constexpr float kMasked = -1e30f;  // exp of it is exactly zero
constexpr size_t kRowsAhead = 8;   // of queries fetched before they are read
// One row has few queries, which take more vectors at a time to hide latencies.
constexpr size_t kFewQueries = 4;
constexpr size_t kFewVectors = kWide ? 4 : 2;
static_assert(kAttentionPadding % (kFewVectors * kLanes) == 0);
static_assert(kAttentionPadding % kBlockTokens == 0);

// See AttentionScratchFloats.
struct TileScratch {
  explicit TileScratch(const AttentionTile& t)
      : queries(t.rows * t.heads * t.group),
        keys(RoundUp(t.first_position + t.rows, kAttentionPadding)),
        padded_dim(RoundUp(t.head_dim, kAttentionPadding)),
        query(t.scratch),
        scaled(query + queries * padded_dim),
        inverse(scaled + padded_dim),
        scores(inverse + RoundUp(queries, 16)) {}

  size_t queries;     // row-major: [rows][heads][group]
  size_t keys;        // padded
  size_t padded_dim;  // padded
  float* query;       // [queries] prepared rows
  float* scaled;      // [padded_dim], one row before it is prepared
  float* inverse;     // [queries], of the softmax's denominator
  float* scores;      // [queries][keys], then the weights of the values
};

// Keys that query `q` of the tile sees: [FirstKey, EndKey).
HWY_INLINE size_t EndKey(const AttentionTile& t, size_t q) {
  return t.first_position + q / (t.heads * t.group) + 1;
}
HWY_INLINE size_t FirstKey(const AttentionTile& t, size_t q) {
  const size_t end = EndKey(t, q);
  const auto window = static_cast<size_t>(t.window);
  return window > 0 && end > window ? end - window : 0;
}
// Where scores start: before it no query of the tile sees any key. Those that a query does
// not see are masked, and add exactly zero to its softmax, whatever tile it is in.
HWY_INLINE size_t FirstScoredKey(const AttentionTile& t) {
  return FirstKey(t, 0) / kAttentionPadding * kAttentionPadding;
}

// Blocks lie far apart, so the hardware does not foresee the next one.
HWY_INLINE void PrefetchBlock(const uint8_t* block, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(block + at);
}

// Where a head's keys or values start in its block. The heads of a tile follow each other.
template <typename Kv>
HWY_INLINE size_t KeyOffset(const AttentionTile& t, size_t head) {
  return head * kBlockTokens * RoundUp(t.head_dim, Kv::kDepth) / Kv::kDepth * Kv::kColumnBytes;
}
template <typename Kv>
HWY_INLINE size_t ValueOffset(const AttentionTile& t, size_t head) {
  return head * kBlockTokens * t.head_dim / Kv::kDepth * Kv::kColumnBytes;
}

// Scores of `kRows` queries of one head, from `q` on, against kVecs vectors of keys from
// `key` on.
template <typename Kv, size_t kVecs, size_t kRows>
HWY_INLINE void ScoreTile(const AttentionTile& t, const TileScratch& s, size_t q, size_t key) {
  StepOperands<kVecs> from;
  from.x = reinterpret_cast<const uint8_t*>(s.query + q * s.padded_dim);
  from.x_stride = s.padded_dim * sizeof(float);
  from.w_step = kBlockTokens * Kv::kColumnBytes;
  const size_t last = (t.first_position + t.rows - 1) / kBlockTokens;
  const size_t offset = KeyOffset<Kv>(t, q / t.group % t.heads);
  for (size_t v = 0; v < kVecs; ++v) {
    // Past the last block lies nothing; what is computed there is not read.
    const size_t column = key + v * kLanes;
    from.w[v] = t.key_blocks[HWY_MIN(column / kBlockTokens, last)] + offset +
                column % kBlockTokens * Kv::kColumnBytes;
  }
  V sum[kRows][kVecs];
  ZeroSums(sum);
  AddSteps<Kv>(from, (t.head_dim + Kv::kDepth - 1) / Kv::kDepth, sum);
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVecs; ++v) {
      hn::StoreU(sum[r][v], D(), s.scores + (q + r) * s.keys + key + v * kLanes);
    }
  }
}

// Scores of all queries against every key that one of them sees. One head.
template <typename Kv>
void ScoreKeys(const AttentionTile& t, const TileScratch& s) {
  const size_t end = t.first_position + t.rows;
  for (size_t key = FirstScoredKey(t); key < end; key += kTileColumns) {
    if (key + kTileColumns < end) {
      PrefetchBlock(t.key_blocks[(key + kTileColumns) / kBlockTokens], ValueOffset<Kv>(t, 1));
    }
    ForEachRowTile<kFloatRows>(s.queries, [&]<size_t kRows>(Rows<kRows>, size_t q) {
      if (key < EndKey(t, q + kRows - 1)) ScoreTile<Kv, kVectors, kRows>(t, s, q, key);
    });
  }
}

// Turns the scores of query `q` into exp(score - largest), the weights of its values;
// returns one over their sum. The weights of keys that it does not see are zero.
template <typename Kv>
float Softmax(const AttentionTile& t, const TileScratch& s, size_t q) {
  const D d;
  float* scores = s.scores + q * s.keys;
  const size_t first = FirstScoredKey(t), end = RoundUp(EndKey(t, q), kBlockTokens);
  for (size_t j = first; j < FirstKey(t, q); ++j) scores[j] = kMasked;
  for (size_t j = EndKey(t, q); j < end; ++j) scores[j] = kMasked;
  V largest = hn::Set(d, kMasked);
  for (size_t j = first; j < end; j += kLanes) largest = hn::Max(largest, hn::LoadU(d, scores + j));
  largest = hn::MaxOfLanes(d, largest);
  V sum = hn::Zero(d);
  for (size_t j = first; j < end; j += kLanes) {
    const V e = Exp(hn::Sub(hn::LoadU(d, scores + j), largest));
    Kv::StoreInput(e, j, scores);
    sum = hn::Add(sum, e);
  }
  return 1.0f / hn::GetLane(hn::SumOfLanes(d, sum));
}

// Some queries' weights, and where the values that they are for lie in their blocks.
struct ValueOperands {
  const float* weights;  // [queries][stride]
  size_t stride;
  size_t offset;  // of the head and the first column
};

// Adds the values of keys from `key` to `end`, both whole steps.
template <typename Kv, size_t kRows, size_t kVecs>
HWY_INLINE void AddValues(const AttentionTile& t, const ValueOperands& operands, size_t key,
                          size_t end, V (&sum)[kRows][kVecs]) {
  StepOperands<kVecs> from;
  from.x_stride = operands.stride * sizeof(float);
  from.w_step = t.head_dim * Kv::kColumnBytes;
  while (key < end) {
    const size_t stop = HWY_MIN(end, (key / kBlockTokens + 1) * kBlockTokens);
    from.x =
        reinterpret_cast<const uint8_t*>(operands.weights) + key / Kv::kDepth * Kv::kInputBytes;
    const uint8_t* block = t.value_blocks[key / kBlockTokens] + operands.offset +
                           key % kBlockTokens / Kv::kDepth * from.w_step;
    for (size_t v = 0; v < kVecs; ++v) from.w[v] = block + v * kLanes * Kv::kColumnBytes;
    AddSteps<Kv>(from, (stop - key) / Kv::kDepth, sum);
    key = stop;
  }
}

// Adds one key of a step that holds two. The other one may hold anything, NaN included.
template <typename Kv, size_t kRows, size_t kVecs>
HWY_INLINE void AddHalfStep(const AttentionTile& t, const ValueOperands& operands, size_t key,
                            V (&sum)[kRows][kVecs]) {
  if constexpr (Kv::kDepth > 1) {
    const uint8_t* from = t.value_blocks[key / kBlockTokens] + operands.offset +
                          key % kBlockTokens / Kv::kDepth * t.head_dim * Kv::kColumnBytes;
    for (size_t v = 0; v < kVecs; ++v) {
      const auto both = Kv::Load(from + v * kLanes * Kv::kColumnBytes);
      const auto value = key % Kv::kDepth == 0 ? Kv::FirstOnly(both) : Kv::SecondOnly(both);
      for (size_t r = 0; r < kRows; ++r) {
        const auto weight =
            Kv::Broadcast(reinterpret_cast<const uint8_t*>(operands.weights + r * operands.stride) +
                          key / Kv::kDepth * Kv::kInputBytes);
        sum[r][v] = Kv::MulAdd(weight, value, sum[r][v]);
      }
    }
  }
}

// Adds the values of keys [key, end), which all of the queries see, to the queries' sums:
// kVecs vectors each, `stride` floats apart.
template <typename Kv, size_t kVecs, size_t kRows>
HWY_NOINLINE void AddSeenValues(const AttentionTile& t, const ValueOperands& operands, size_t key,
                                size_t end, float* sums, size_t stride) {
  V sum[kRows][kVecs];
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVecs; ++v) sum[r][v] = hn::LoadU(D(), sums + r * stride + v * kLanes);
  }
  if (key < end && key % Kv::kDepth != 0) AddHalfStep<Kv>(t, operands, key++, sum);
  if (key < end) {
    const size_t whole = end / Kv::kDepth * Kv::kDepth;
    AddValues<Kv>(t, operands, key, whole, sum);
    if (whole < end) AddHalfStep<Kv>(t, operands, whole, sum);
  }
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVecs; ++v) hn::StoreU(sum[r][v], D(), sums + r * stride + v * kLanes);
  }
}

// Columns from `column` on of query `q`, divided by its softmax's denominator.
HWY_INLINE void WriteOut(const AttentionTile& t, const TileScratch& s, size_t q, size_t column,
                         size_t count, const float* sums) {
  const V inverse = hn::Set(D(), s.inverse[q]);
  const size_t queries = t.heads * t.group;
  float* out = t.out + q / queries * t.out_stride + q % queries * t.head_dim + column;
  for (size_t i = 0; i < count; i += kLanes) {
    StoreFirst(hn::Mul(hn::LoadU(D(), sums + i), inverse), out + i, HWY_MIN(kLanes, count - i));
  }
}

// Vectors of columns from `column` on of `kRows` queries from `q` on: each its own first
// keys, then the whole steps that all of them see, then each its own last keys. One head.
template <typename Kv, size_t kVecs, size_t kRows>
HWY_INLINE void ValueTile(const AttentionTile& t, const TileScratch& s, size_t q, size_t column) {
  const size_t end = EndKey(t, q) / Kv::kDepth * Kv::kDepth;
  const size_t begin = HWY_MIN(RoundUp(FirstKey(t, q + kRows - 1), Kv::kDepth), end);
  const ValueOperands operands = {s.scores + q * s.keys, s.keys, column * Kv::kColumnBytes};
  alignas(64) float sums[kRows][kVecs * kLanes] = {};
  const auto add_own = [&](size_t r, size_t key, size_t stop) {
    const ValueOperands own = {operands.weights + r * s.keys, s.keys, operands.offset};
    AddSeenValues<Kv, kVecs, 1>(t, own, HWY_MAX(key, FirstKey(t, q + r)), stop, sums[r], 0);
  };
  for (size_t r = 0; r < kRows && begin > 0; ++r) add_own(r, 0, begin);
  V sum[kRows][kVecs];
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVecs; ++v) sum[r][v] = hn::Load(D(), sums[r] + v * kLanes);
  }
  AddValues<Kv>(t, operands, begin, end, sum);
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVecs; ++v) hn::Store(sum[r][v], D(), sums[r] + v * kLanes);
  }
  for (size_t r = 0; r < kRows; ++r) {
    if (end < EndKey(t, q + r)) add_own(r, end, EndKey(t, q + r));
    WriteOut(t, s, q + r, column, HWY_MIN(kVecs * kLanes, t.head_dim - column), sums[r]);
  }
}

template <typename Kv>
void SumValues(const AttentionTile& t, const TileScratch& s) {
  ForEachRowTile<kFloatRows>(s.queries, [&]<size_t kRows>(Rows<kRows>, size_t q) {
    size_t column = 0;
    for (; column + kTileColumns <= t.head_dim; column += kTileColumns) {
      ValueTile<Kv, kVectors, kRows>(t, s, q, column);
    }
    for (; column < t.head_dim; column += kLanes) ValueTile<Kv, 1, kRows>(t, s, q, column);
  });
}

// Calls tile(Rows<n>(), q) for the queries of each head in turn.
template <typename Tile>
HWY_INLINE void ForEachFewQueries(const AttentionTile& t, const Tile& tile) {
  for (size_t head = 0; head < t.heads; ++head) {
    size_t q = head * t.group;
    const size_t end = q + t.group;
    for (; q + kFewQueries <= end; q += kFewQueries) tile(Rows<kFewQueries>(), q);
    if (q + 3 == end) tile(Rows<3>(), q);
    if (q + 2 == end) tile(Rows<2>(), q);
    if (q + 1 == end) tile(Rows<1>(), q);
  }
}

// One row: all queries see the same keys. A run of keys is read of all heads before the next,
// so that memory is read as it lies.
template <typename Kv>
void AttendOneRow(const AttentionTile& t, const TileScratch& s) {
  const size_t end = EndKey(t, 0);
  for (size_t key = FirstScoredKey(t); key < end; key += kFewVectors * kLanes) {
    ForEachFewQueries(t, [&]<size_t kRows>(Rows<kRows>, size_t q) {
      ScoreTile<Kv, kFewVectors, kRows>(t, s, q, key);
    });
  }
  for (size_t q = 0; q < s.queries; ++q) s.inverse[q] = Softmax<Kv>(t, s, q);
  float* sums = s.query;  // prepared rows are read no more
  std::memset(sums, 0, s.queries * s.padded_dim * sizeof(float));
  for (size_t key = FirstKey(t, 0); key < end;) {
    const size_t stop = HWY_MIN(end, (key / kAttentionPadding + 1) * kAttentionPadding);
    ForEachFewQueries(t, [&]<size_t kRows>(Rows<kRows>, size_t q) {
      const size_t head = ValueOffset<Kv>(t, q / t.group);
      ValueOperands operands = {s.scores + q * s.keys, s.keys, head};
      float* to = sums + q * s.padded_dim;
      size_t column = 0;
      const auto add = [&]<size_t kVecs>(Rows<kVecs>) {
        operands.offset = head + column * Kv::kColumnBytes;
        AddSeenValues<Kv, kVecs, kRows>(t, operands, key, stop, to + column, s.padded_dim);
        column += kVecs * kLanes;
      };
      while (column + kFewVectors * kLanes <= t.head_dim) add(Rows<kFewVectors>());
      while (column < t.head_dim) add(Rows<1>());
    });
    key = stop;
  }
  for (size_t q = 0; q < s.queries; ++q) {
    WriteOut(t, s, q, 0, t.head_dim, sums + q * s.padded_dim);
  }
}

template <typename Kv>
void PrepareQueries(const AttentionTile& t, const TileScratch& s) {
  const size_t queries = t.heads * t.group;
  for (size_t q = 0; q < s.queries; ++q) {
    const float* from = t.q + q / queries * t.q_stride + q % queries * t.head_dim;
    // Rows lie pages apart.
    PrefetchBlock(reinterpret_cast<const uint8_t*>(from + kRowsAhead * t.q_stride),
                  t.head_dim * sizeof(float));
    for (size_t i = 0; i < t.head_dim; ++i) s.scaled[i] = from[i] * t.scale;
    PrepareRow(Kv::kInput, s.scaled, t.head_dim,
               reinterpret_cast<uint8_t*>(s.query + q * s.padded_dim));
  }
}

template <typename Kv>
void AttendOf(const AttentionTile& t) {
  const TileScratch s(t);
  PrepareQueries<Kv>(t, s);
  if (t.rows == 1) return AttendOneRow<Kv>(t, s);
  ScoreKeys<Kv>(t, s);
  for (size_t q = 0; q < s.queries; ++q) s.inverse[q] = Softmax<Kv>(t, s, q);
  SumValues<Kv>(t, s);
}

void Attend(const AttentionTile& t) {
  switch (t.kv_dtype) {
    case Dtype::kFloat32:
      return AttendOf<Fp32Weights>(t);
    case Dtype::kBfloat16:
      return AttendOf<Bf16Weights>(t);
    case Dtype::kFloat16:
      return AttendOf<Fp16Weights>(t);
  }
}

}  // namespace
}  // namespace REPRISE_KERNELS_NAME
}  // namespace reprise
