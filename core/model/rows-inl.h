// One row at a time: norms, activations, and the inputs that products read.
#pragma once

#include "core/model/float_products-inl.h"

namespace reprise {
namespace REPRISE_KERNELS_NAME {
namespace {

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

// e^x for x up to 88, within 2 units in the last place; exactly zero below -87. 2^n e^r with
// n = round(x / ln 2), whose sum with kRound leaves n in the low bits. Coefficients: Cephes expf.
HWY_INLINE V Exp(V x) {
  const D d;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504f), hn::Set(d, kRound));
  const V n = hn::Sub(shifted, hn::Set(d, kRound));
  const V r =
      hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x));
  V p = hn::Set(d, 1.9875691500e-4f);
  for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                        5.0000001201e-1f, 1.0f, 1.0f}) {
    p = hn::MulAdd(p, r, hn::Set(d, c));
  }
  const VI exponent = hn::ShiftLeft<23>(hn::BitCast(DI(), shifted));
  const V power = hn::BitCast(d, hn::Add(hn::BitCast(DI(), p), exponent));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, -87.0f)), power);
}

// x / (1 + e^y). Past 88 the quotient is zero either way.
HWY_INLINE V DivideByOnePlusExp(V x, V y) {
  const D d;
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), Exp(hn::Min(y, hn::Set(d, 88.0f)))));
}

void SiluMultiply(float* gate, const float* up, size_t size) {
  ForEachVector(gate, size, [&](V g, size_t i, size_t count) {
    const V silu = DivideByOnePlusExp(g, hn::Neg(g));
    StoreFirst(hn::Mul(silu, LoadFirst(up + i, count)), gate + i, count);
  });
}

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), which is x / (1 + exp(-2 sqrt(2/pi) (...))).
void Gelu(float* x, size_t size) {
  const D d;
  ForEachVector(x, size, [&](V v, size_t i, size_t count) {
    const V cube = hn::Mul(hn::Mul(v, v), v);
    const V inner =
        hn::Mul(hn::Set(d, -2 * 0.7978845608028654f), hn::MulAdd(hn::Set(d, 0.044715f), cube, v));
    StoreFirst(DivideByOnePlusExp(v, inner), x + i, count);
  });
}

// Of n vectors, one vector of what op(...) makes of the lanes of each; op is exact in any order.
template <typename DT, typename Op>
HWY_INLINE hn::Vec<DT> ReduceEach(DT d, hn::Vec<DT> (&vectors)[kLanes], Op op) {
#if HWY_TARGET != HWY_SCALAR
#pragma GCC unroll 8
  for (size_t n = kLanes / 2; n > 0; n /= 2) {
#pragma GCC unroll 8
    for (size_t i = 0; i < n; ++i) {
      const auto low = vectors[2 * i], high = vectors[2 * i + 1];
      vectors[i] = op(hn::ConcatEven(d, high, low), hn::ConcatOdd(d, high, low));
    }
  }
#endif
  return vectors[0];
}

// Symmetric: the largest magnitude becomes 127. Below kSmallest the inverse would overflow.
struct QuantScale {
  explicit HWY_INLINE QuantScale(V magnitude) {
    constexpr float kSmallest = 1e-30f;
    const auto any = hn::Gt(magnitude, hn::Set(D(), kSmallest));
    scale = hn::IfThenElseZero(any, hn::Mul(magnitude, hn::Set(D(), 1.0f / 127.0f)));
    inverse = hn::IfThenElseZero(any, hn::Div(hn::Set(D(), 127.0f), magnitude));
  }
  V scale, inverse;
};

// Quantises one vector; what lies past the row's end is zero.
HWY_INLINE VI QuantizeVector(V x, V inverse, uint8_t* to) {
  const VI values = hn::NearestInt(hn::Mul(x, inverse));
  const hn::Rebind<int8_t, DI> d8;
  hn::StoreU(hn::DemoteTo(d8, values), d8, reinterpret_cast<int8_t*>(to));
  return values;
}

// Writes what QuantizedRow says of `count` blocks, one in each lane.
HWY_INLINE void StoreBlockSums(V scale, VI sum, size_t count, uint8_t* scales,
                               const QuantizedRow& layout) {
  const auto store = [&](V values, size_t offset) {
    StoreFirst(values, reinterpret_cast<float*>(scales + offset - layout.scales), count);
  };
  store(scale, layout.scales);
  store(hn::BitCast(D(), hn::Neg(hn::ShiftLeft<3>(sum))), layout.starts);
  store(hn::Mul(scale, hn::ConvertTo(D(), sum)), layout.scaled_sums);
}

void QuantizeRow(const float* x, size_t size, const QuantizedRow& layout, uint8_t* out) {
  V largest = hn::Zero(D());
  ForEachVector(x, size, [&](V v, size_t, size_t) { largest = hn::Max(largest, hn::Abs(v)); });
  const QuantScale by(hn::MaxOfLanes(D(), largest));
  VI total = hn::Zero(DI());
  ForEachVector(x, size, [&](V v, size_t i, size_t) {
    total = hn::Add(total, QuantizeVector(v, by.inverse, out + i));
  });
  StoreBlockSums(by.scale, hn::SumOfLanes(DI(), total), 1, out + layout.scales, layout);
}

// Up to kLanes blocks from `first` on: their reductions over lanes are taken together.
void QuantizeBlocks(const float* x, size_t first, const QuantizedRow& layout, uint8_t* out) {
  const size_t count = HWY_MIN(kLanes, layout.blocks - first);
  x += first * kQuantBlock;
  V largest[kLanes];
  for (size_t b = 0; b < kLanes; ++b) {
    largest[b] = hn::Zero(D());
    for (size_t i = 0; b < count && i < kQuantBlock; i += kLanes) {
      largest[b] = hn::Max(largest[b], hn::Abs(hn::LoadU(D(), x + b * kQuantBlock + i)));
    }
  }
  const QuantScale by(ReduceEach(D(), largest, [](V a, V b) { return hn::Max(a, b); }));
  alignas(64) float inverses[kLanes];
  hn::Store(by.inverse, D(), inverses);
  VI sums[kLanes];
  for (size_t b = 0; b < kLanes; ++b) {
    sums[b] = hn::Zero(DI());
    const V inverse = hn::Set(D(), inverses[b]);
    for (size_t i = 0; b < count && i < kQuantBlock; i += kLanes) {
      const size_t at = b * kQuantBlock + i;
      const VI values =
          QuantizeVector(hn::LoadU(D(), x + at), inverse, out + first * kQuantBlock + at);
      sums[b] = hn::Add(sums[b], values);
    }
  }
  const VI sum = ReduceEach(DI(), sums, [](VI a, VI b) { return hn::Add(a, b); });
  StoreBlockSums(by.scale, sum, count, out + layout.scales + first * 4, layout);
}

void RoundRow(Dtype dtype, const float* x, size_t size, uint8_t* out) {
  auto* to = reinterpret_cast<uint16_t*>(out);
  switch (dtype) {
    case Dtype::kFloat32:
      std::memcpy(out, x, size * sizeof(float));
      return;
    case Dtype::kBfloat16:
      for (size_t i = 0; i < size; ++i) to[i] = ToBfloat16(x[i]);
      return;
    case Dtype::kFloat16:
      for (size_t i = 0; i < size; ++i) to[i] = ToFloat16(x[i]);
      return;
  }
}

void PrepareRow(InputFormat format, const float* x, size_t depth, uint8_t* out) {
  if (format == InputFormat::kFloat32 || format == InputFormat::kBfloat16) {
    const Dtype dtype = format == InputFormat::kFloat32 ? Dtype::kFloat32 : Dtype::kBfloat16;
    RoundRow(dtype, x, depth, out);
    if (depth % 2 != 0) std::memset(out + depth * DtypeBytes(dtype), 0, DtypeBytes(dtype));
    return;
  }
  const QuantizedRow layout(format, depth);
  if (format == InputFormat::kInt8Row) {
    std::memset(out + depth / 64 * 64, 0, layout.scales - depth / 64 * 64);
    return QuantizeRow(x, depth, layout, out);
  }
  for (size_t b = 0; b < layout.blocks; b += kLanes) QuantizeBlocks(x, b, layout, out);
}

InputFormat InputFormatOf(WeightFormat format) {
  if (IsBlockFormat(format)) return InputFormat::kInt8Block;
  if (format == WeightFormat::kInt8) return InputFormat::kInt8Row;
  return format == WeightFormat::kBf16 ? Bf16Weights::kInput : InputFormat::kFloat32;
}

}  // namespace
}  // namespace REPRISE_KERNELS_NAME
}  // namespace reprise
