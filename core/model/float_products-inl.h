// Products with floating-point weights: one chain of multiply-adds over k for
// each output element, the same for every number of rows.
#pragma once

#include "core/model/vectors-inl.h"

namespace reprise {
namespace REPRISE_KERNELS_NAME {
namespace {

constexpr size_t kFloatRows = kWide ? 12 : 6;

// Each policy says what one step along k reads: kDepth values of k, kColumnBytes
// of each column, kInputBytes of each row.
struct Fp32Weights {
  static constexpr size_t kDepth = 1, kColumnBytes = 4, kInputBytes = 4;
  static constexpr InputFormat kInput = InputFormat::kFloat32;
  using Weight = V;
  using Input = V;
  static HWY_INLINE Weight Load(const uint8_t* from) {
    return hn::LoadU(D(), reinterpret_cast<const float*>(from));
  }
  static HWY_INLINE Input Broadcast(const uint8_t* from) {
    return hn::Set(D(), BitsToFloat(static_cast<uint32_t>(LoadWord(from))));
  }
  static HWY_INLINE V MulAdd(Input x, Weight w, V sum) { return hn::MulAdd(x, w, sum); }
  // Writes kLanes values of an input row, the first being its k-th.
  static HWY_INLINE void StoreInput(V values, size_t k, float* row) {
    hn::StoreU(values, D(), row + k);
  }
};

struct Fp16Weights : Fp32Weights {
  static constexpr size_t kColumnBytes = 2;
  static HWY_INLINE Weight Load(const uint8_t* from) { return LoadFloat16(from); }
};

#if defined(__AVX512BF16__)
struct Bf16Weights {
  static constexpr size_t kDepth = 2, kColumnBytes = 4, kInputBytes = 4;
  static constexpr InputFormat kInput = InputFormat::kBfloat16;
  using Weight = __m512i;
  using Input = __m512i;
  static HWY_INLINE Weight Load(const uint8_t* from) { return _mm512_loadu_si512(from); }
  static HWY_INLINE Input Broadcast(const uint8_t* from) {
    return _mm512_set1_epi32(LoadWord(from));
  }
  static HWY_INLINE V MulAdd(Input x, Weight w, V sum) {
    return V{_mm512_dpbf16_ps(sum.raw, (__m512bh)w, (__m512bh)x)};
  }
  static HWY_INLINE Weight FirstOnly(Weight w) {
    return _mm512_and_si512(w, _mm512_set1_epi32(0xffff));
  }
  static HWY_INLINE Weight SecondOnly(Weight w) {
    return _mm512_andnot_si512(_mm512_set1_epi32(0xffff), w);
  }
  static HWY_INLINE void StoreInput(V values, size_t k, float* row) {
    const __m256bh rounded = _mm512_cvtneps_pbh(values.raw);
    std::memcpy(reinterpret_cast<uint8_t*>(row) + k * 2, &rounded, sizeof(rounded));
  }
};
#else
// Widened to fp32: exact, so only the input's precision differs from above.
struct Bf16Weights {
  static constexpr size_t kDepth = 2, kColumnBytes = 4, kInputBytes = 8;
  static constexpr InputFormat kInput = InputFormat::kFloat32;
  struct Weight {
    V first, second;
  };
  using Input = Weight;
  static HWY_INLINE Weight Load(const uint8_t* from) {
    const hn::RebindToUnsigned<D> du;
    const auto pair = hn::LoadU(du, reinterpret_cast<const uint32_t*>(from));
    return {hn::BitCast(D(), hn::ShiftLeft<16>(pair)),
            hn::BitCast(D(), hn::And(pair, hn::Set(du, 0xffff0000u)))};
  }
  static HWY_INLINE Input Broadcast(const uint8_t* from) {
    return {Fp32Weights::Broadcast(from), Fp32Weights::Broadcast(from + sizeof(float))};
  }
  static HWY_INLINE V MulAdd(const Input& x, const Weight& w, V sum) {
    return hn::MulAdd(x.second, w.second, hn::MulAdd(x.first, w.first, sum));
  }
  static HWY_INLINE Weight FirstOnly(const Weight& w) { return {w.first, hn::Zero(D())}; }
  static HWY_INLINE Weight SecondOnly(const Weight& w) { return {hn::Zero(D()), w.second}; }
  static HWY_INLINE void StoreInput(V values, size_t k, float* row) {
    Fp32Weights::StoreInput(values, k, row);
  }
};
#endif

// What consecutive steps along k read: rows x_stride apart and vectors of columns,
// each at its own place, w_step bytes a step.
template <size_t kVecs>
struct StepOperands {
  const uint8_t* x;
  size_t x_stride;
  const uint8_t* w[kVecs];
  size_t w_step;
  const uint8_t* ahead = nullptr;  // with kAhead: a line w_step further each step is fetched
};

template <size_t kRows, size_t kVecs>
HWY_INLINE void ZeroSums(V (&sum)[kRows][kVecs]) {
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVecs; ++v) sum[r][v] = hn::Zero(D());
  }
}

template <typename Weights, bool kAhead = false, size_t kRows, size_t kVecs>
HWY_INLINE void AddSteps(const StepOperands<kVecs>& from, size_t steps, V (&sum)[kRows][kVecs]) {
  const uint8_t* x = from.x;
  size_t at = 0;
  for (size_t s = 0; s < steps; ++s) {
    typename Weights::Weight weights[kVecs];
    for (size_t v = 0; v < kVecs; ++v) weights[v] = Weights::Load(from.w[v] + at);
#pragma GCC unroll 16
    for (size_t r = 0; r < kRows; ++r) {
      const typename Weights::Input value = Weights::Broadcast(x + r * from.x_stride);
      for (size_t v = 0; v < kVecs; ++v) sum[r][v] = Weights::MulAdd(value, weights[v], sum[r][v]);
    }
    if constexpr (kAhead) FetchToSecondLevel(from.ahead + at);
    x += Weights::kInputBytes;
    at += from.w_step;
  }
}

template <size_t kRows, typename Weights, bool kAhead>
HWY_INLINE void MultiplyFloatTile(const PanelProduct& p, size_t row, size_t column) {
  StepOperands<kVectors> from = {
      p.x + row * p.x_stride, p.x_stride, {}, kPanelColumns * Weights::kColumnBytes};
  for (size_t v = 0; v < kVectors; ++v) {
    from.w[v] = p.panel + (column + v * kLanes) * Weights::kColumnBytes;
  }
  const size_t steps = (p.depth + Weights::kDepth - 1) / Weights::kDepth;
  from.ahead = p.panel + steps * from.w_step + row / kRows % 2 * 64;
  V sum[kRows][kVectors];
  ZeroSums(sum);
  AddSteps<Weights, kAhead>(from, steps, sum);
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) StoreColumns(p, row + r, column, sum[r]);
}

template <typename Weights, bool kAhead>
HWY_INLINE void MultiplyFloatTiles(const PanelProduct& p) {
  for (size_t column = 0; column < p.columns; column += kTileColumns) {
    ForEachRowTile<kFloatRows>(p.rows, [&]<size_t kRows>(Rows<kRows>, size_t row) {
      MultiplyFloatTile<kRows, Weights, kAhead>(p, row, column);
    });
  }
}

template <typename Weights>
void MultiplyFloatPanel(const PanelProduct& p) {
  if (p.rows >= kRowsToFetch) return MultiplyFloatTiles<Weights, true>(p);
  MultiplyFloatTiles<Weights, false>(p);
}

}  // namespace
}  // namespace REPRISE_KERNELS_NAME
}  // namespace reprise
