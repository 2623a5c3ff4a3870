// Products with int8 and 4-bit weights: inputs are quantised per row, sums
// within a block are exact integers, and blocks add up in order. Every
// instruction set gets the same integers.
#pragma once

#include "core/model/float_products-inl.h"

namespace reprise {
namespace REPRISE_KERNELS_NAME {
namespace {

constexpr size_t kInt8Rows = kWide ? 12 : 4;
constexpr size_t kBlockRows = kWide ? 6 : 2;

// Adds the products of four unsigned weight bytes and four signed input bytes to
// each 32-bit lane.
#if defined(__AVX512VNNI__)
struct Dot4 {
  using Operand = VI;
  static HWY_INLINE Operand Weights(VI bytes) { return bytes; }
  static HWY_INLINE Operand Input(VI bytes) { return bytes; }
  static HWY_INLINE VI Add(VI sum, Operand w, Operand x) {
    // As an intrinsic, GCC 12 copies every sum to another register and back.
    asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(w.raw), "v"(x.raw));
    return sum;
  }
};
#elif HWY_TARGET == HWY_SCALAR
struct Dot4 {
  using Operand = VI;
  static HWY_INLINE Operand Weights(VI bytes) { return bytes; }
  static HWY_INLINE Operand Input(VI bytes) { return bytes; }
  static HWY_INLINE VI Add(VI sum, Operand w, Operand x) {
    uint8_t weights[4];
    int8_t inputs[4];
    std::memcpy(weights, &w.raw, sizeof(weights));
    std::memcpy(inputs, &x.raw, sizeof(inputs));
    for (size_t i = 0; i < 4; ++i) sum.raw += weights[i] * inputs[i];
    return sum;
  }
};
#else
struct Dot4 {
  using D16 = hn::Repartition<int16_t, DI>;
  struct Operand {
    hn::Vec<D16> even, odd;  // bytes 0 and 2, bytes 1 and 3 of each lane
  };
  static HWY_INLINE Operand Weights(VI bytes) {
    const hn::RebindToUnsigned<D16> u16;
    const auto pairs = hn::BitCast(u16, bytes);
    return {hn::BitCast(D16(), hn::And(pairs, hn::Set(u16, 0xff))),
            hn::BitCast(D16(), hn::ShiftRight<8>(pairs))};
  }
  static HWY_INLINE Operand Input(VI bytes) {
    const auto pairs = hn::BitCast(D16(), bytes);
    return {hn::ShiftRight<8>(hn::ShiftLeft<8>(pairs)), hn::ShiftRight<8>(pairs)};
  }
  static HWY_INLINE VI Add(VI sum, const Operand& w, const Operand& x) {
    VI unused = hn::Zero(DI());
    sum = hn::ReorderWidenMulAccumulate(DI(), w.even, x.even, sum, unused);
    return hn::ReorderWidenMulAccumulate(DI(), w.odd, x.odd, sum, unused);
  }
};
#endif

HWY_INLINE VI LoadBytes(const uint8_t* from) {
  return hn::LoadU(DI(), reinterpret_cast<const int32_t*>(from));
}

HWY_INLINE Dot4::Operand BroadcastInput(const uint8_t* from) {
  return Dot4::Input(hn::Set(DI(), LoadWord(from)));
}

// One step of four k for all rows: `x` is at the step in row 0.
template <size_t kRows>
HWY_INLINE void DotStep(const Dot4::Operand (&weights)[kVectors], const uint8_t* x, size_t stride,
                        VI (&sum)[kRows][kVectors]) {
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    const Dot4::Operand value = BroadcastInput(x + r * stride);
    for (size_t v = 0; v < kVectors; ++v) sum[r][v] = Dot4::Add(sum[r][v], weights[v], value);
  }
}

// Weight bytes are stored with an offset of 0, 8 or 128; starting at minus offset
// times the sum of the inputs takes it out again. `starts` holds -8 times the sums.
template <size_t kRows, int kOffset>
HWY_INLINE void StartSums(const uint8_t* starts, size_t stride, VI (&sum)[kRows][kVectors]) {
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    VI start = hn::Zero(DI());
    if constexpr (kOffset != 0) start = hn::Set(DI(), LoadWord(starts + r * stride));
    if constexpr (kOffset == 128) start = hn::ShiftLeft<4>(start);
    for (size_t v = 0; v < kVectors; ++v) sum[r][v] = start;
  }
}

HWY_INLINE V BroadcastFloat(const uint8_t* from) {
  return hn::Set(D(), BitsToFloat(static_cast<uint32_t>(LoadWord(from))));
}

template <size_t kRows, bool kAhead>
HWY_INLINE void MultiplyInt8Tile(const PanelProduct& p, size_t row, size_t column) {
  const QuantizedRow layout(InputFormat::kInt8Row, p.depth);
  const uint8_t* x = p.x + row * p.x_stride;
  const uint8_t* w = p.panel + column * 4;
  VI sum[kRows][kVectors];
  StartSums<kRows, 128>(x + layout.starts, p.x_stride, sum);
  const size_t ahead = PanelBytes(WeightFormat::kInt8, p.depth) + row / kRows % 2 * 64;
  for (size_t k = 0; k < p.depth; k += 4, w += kPanelColumns * 4) {
    if constexpr (kAhead) FetchToSecondLevel(w - column * 4 + ahead);
    Dot4::Operand weights[kVectors];
    for (size_t v = 0; v < kVectors; ++v) {
      weights[v] = Dot4::Weights(LoadBytes(w + v * kLanes * 4));
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < kRows; ++r) {
      const Dot4::Operand value = BroadcastInput(x + r * p.x_stride + k);
      for (size_t v = 0; v < kVectors; ++v) sum[r][v] = Dot4::Add(sum[r][v], weights[v], value);
    }
  }
  const auto* scales = reinterpret_cast<const float*>(w - column * 4) + column;
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    const V input_scale = BroadcastFloat(x + r * p.x_stride + layout.scales);
    V result[kVectors];
    for (size_t v = 0; v < kVectors; ++v) {
      const V scale = hn::Mul(hn::LoadU(D(), scales + v * kLanes), input_scale);
      result[v] = hn::Mul(hn::ConvertTo(D(), sum[r][v]), scale);
    }
    StoreColumns(p, row + r, column, result);
  }
}

template <bool kAhead>
HWY_INLINE void MultiplyInt8Tiles(const PanelProduct& p) {
  for (size_t column = 0; column < p.columns; column += kTileColumns) {
    ForEachRowTile<kInt8Rows>(p.rows, [&]<size_t kRows>(Rows<kRows>, size_t row) {
      MultiplyInt8Tile<kRows, kAhead>(p, row, column);
    });
  }
}

void MultiplyInt8Panel(const PanelProduct& p) {
  if (p.rows >= kRowsToFetch) return MultiplyInt8Tiles<true>(p);
  MultiplyInt8Tiles<false>(p);
}

// Eight steps of a block with byte or nibble weights.
template <size_t kRows, bool kNibbles>
HWY_INLINE void DotBlock(const uint8_t* w, const uint8_t* x, size_t stride,
                         VI (&sum)[kRows][kVectors]) {
  constexpr size_t kStepBytes = kPanelColumns * 4;
  Dot4::Operand weights[kVectors], high[kVectors];
  if constexpr (!kNibbles) {
    for (size_t step = 0; step < 8; ++step, w += kStepBytes) {
      for (size_t v = 0; v < kVectors; ++v) {
        weights[v] = Dot4::Weights(LoadBytes(w + v * kLanes * 4));
      }
      DotStep(weights, x + step * 4, stride, sum);
    }
    return;
  }
  const VI mask = hn::Set(DI(), 0x0f0f0f0f);
  for (size_t step = 0; step < 4; ++step, w += kStepBytes) {
    for (size_t v = 0; v < kVectors; ++v) {
      const VI bytes = LoadBytes(w + v * kLanes * 4);
      weights[v] = Dot4::Weights(hn::And(bytes, mask));
      high[v] = Dot4::Weights(hn::And(hn::ShiftRight<4>(bytes), mask));
    }
    DotStep(weights, x + step * 4, stride, sum);
    DotStep(high, x + (step + 4) * 4, stride, sum);
  }
}

HWY_INLINE V LoadByteFloats(const uint8_t* from) {
  const hn::Rebind<uint8_t, DI> d8;
  return hn::ConvertTo(D(), hn::PromoteTo(DI(), hn::LoadU(d8, from)));
}

// Scale and minimum of one vector of columns. `after` is past the block's
// weights, `super` at the d and dmin that cover it (kQ4_K).
template <WeightFormat kFormat>
HWY_INLINE void LoadScales(const uint8_t* after, const uint8_t* super, size_t column, V& scale,
                           V& minimum) {
  if constexpr (kFormat == WeightFormat::kQ4_K) {
    scale = hn::Mul(LoadFloat16(super + column * 2), LoadByteFloats(after + column));
    minimum = hn::Neg(hn::Mul(LoadFloat16(super + (kPanelColumns + column) * 2),
                              LoadByteFloats(after + kPanelColumns + column)));
  } else {
    scale = LoadFloat16(after + column * 2);
    if constexpr (kFormat == WeightFormat::kQ4_1) {
      minimum = LoadFloat16(after + (kPanelColumns + column) * 2);
    }
  }
}

// A block's integer sum, scaled, and its minimum times the inputs' sum.
template <bool kMinimum>
HWY_INLINE void AddBlock(VI sum, V scale, V minimum, V scaled_sum, V& total) {
  total = hn::MulAdd(hn::ConvertTo(D(), sum), scale, total);
  if constexpr (kMinimum) total = hn::MulAdd(minimum, scaled_sum, total);
}

template <size_t kRows, WeightFormat kFormat, bool kAhead>
HWY_INLINE void MultiplyBlockTile(const PanelProduct& p, size_t row, size_t column) {
  constexpr bool kNibbles = kFormat != WeightFormat::kQ8_0;
  constexpr bool kMinimum = kFormat == WeightFormat::kQ4_1 || kFormat == WeightFormat::kQ4_K;
  constexpr int32_t kOffset = kMinimum ? 0 : kNibbles ? 8 : 128;
  constexpr size_t kWeightBytes = kQuantBlock * kPanelColumns / (kNibbles ? 2 : 1);
  const QuantizedRow layout(InputFormat::kInt8Block, p.depth);
  const uint8_t* x = p.x + row * p.x_stride;
  const uint8_t* block = p.panel;
  const uint8_t* super = nullptr;
  const size_t ahead = PanelBytes(kFormat, p.depth) + row / kRows % 4 * 64;
  V total[kRows][kVectors];
  ZeroSums(total);
  for (size_t b = 0; b < layout.blocks; ++b, block += PackedBlockBytes(kFormat)) {
    if (kFormat == WeightFormat::kQ4_K && b % kSuperBlocks == 0) {
      super = block;
      block += kPanelColumns * 4;
    }
    if constexpr (kAhead) {
      for (size_t at = 0; at < kWeightBytes; at += 256) FetchToSecondLevel(block + ahead + at);
    }
    VI sum[kRows][kVectors];
    StartSums<kRows, kOffset>(x + layout.starts + b * 4, p.x_stride, sum);
    DotBlock<kRows, kNibbles>(block + column * 4, x + b * kQuantBlock, p.x_stride, sum);
    V scale[kVectors], minimum[kVectors] = {};
    for (size_t v = 0; v < kVectors; ++v) {
      LoadScales<kFormat>(block + kWeightBytes, super, column + v * kLanes, scale[v], minimum[v]);
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < kRows; ++r) {
      const uint8_t* record = x + r * p.x_stride + b * 4;
      const V input_scale = BroadcastFloat(record + layout.scales);
      const V scaled_sum = kMinimum ? BroadcastFloat(record + layout.scaled_sums) : input_scale;
      for (size_t v = 0; v < kVectors; ++v) {
        AddBlock<kMinimum>(sum[r][v], hn::Mul(scale[v], input_scale), minimum[v], scaled_sum,
                           total[r][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) StoreColumns(p, row + r, column, total[r]);
}

template <WeightFormat kFormat, bool kAhead>
HWY_INLINE void MultiplyBlockTiles(const PanelProduct& p) {
  for (size_t column = 0; column < p.columns; column += kTileColumns) {
    ForEachRowTile<kBlockRows>(p.rows, [&]<size_t kRows>(Rows<kRows>, size_t row) {
      MultiplyBlockTile<kRows, kFormat, kAhead>(p, row, column);
    });
  }
}

template <WeightFormat kFormat>
void MultiplyBlockPanel(const PanelProduct& p) {
  if (p.rows >= kRowsToFetch) return MultiplyBlockTiles<kFormat, true>(p);
  MultiplyBlockTiles<kFormat, false>(p);
}

}  // namespace
}  // namespace REPRISE_KERNELS_NAME
}  // namespace reprise
