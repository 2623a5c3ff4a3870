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
  using Weight = V;
  using Input = V;
  static HWY_INLINE Weight Load(const uint8_t* from) {
    return hn::LoadU(D(), reinterpret_cast<const float*>(from));
  }
  static HWY_INLINE Input Broadcast(const uint8_t* from) {
    return hn::Set(D(), BitsToFloat(static_cast<uint32_t>(LoadWord(from))));
  }
  static HWY_INLINE V MulAdd(Input x, Weight w, V sum) { return hn::MulAdd(x, w, sum); }
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
};
#endif

template <size_t kRows, typename Weights>
HWY_INLINE void MultiplyFloatTile(const PanelProduct& p, size_t row, size_t column) {
  V sum[kRows][kVectors];
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(D());
  }
  const uint8_t* x = p.x + row * p.x_stride;
  const uint8_t* w = p.panel + column * Weights::kColumnBytes;
  const size_t steps = (p.depth + Weights::kDepth - 1) / Weights::kDepth;
  for (size_t s = 0; s < steps; ++s) {
    typename Weights::Weight weights[kVectors];
    for (size_t v = 0; v < kVectors; ++v) {
      weights[v] = Weights::Load(w + v * kLanes * Weights::kColumnBytes);
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < kRows; ++r) {
      const typename Weights::Input value = Weights::Broadcast(x + r * p.x_stride);
      for (size_t v = 0; v < kVectors; ++v) {
        sum[r][v] = Weights::MulAdd(value, weights[v], sum[r][v]);
      }
    }
    x += Weights::kInputBytes;
    w += kPanelColumns * Weights::kColumnBytes;
  }
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) StoreColumns(p, row + r, column, sum[r]);
}

template <typename Weights>
void MultiplyFloatPanel(const PanelProduct& p) {
  for (size_t column = 0; column < p.columns; column += kTileColumns) {
    ForEachRowTile<kFloatRows>(p.rows, [&]<size_t kRows>(Rows<kRows>, size_t row) {
      MultiplyFloatTile<kRows, Weights>(p, row, column);
    });
  }
}

}  // namespace
}  // namespace REPRISE_KERNELS_NAME
}  // namespace reprise
