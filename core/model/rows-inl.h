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

void SiluMultiply(float* gate, const float* up, size_t size) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  ForEachVector(gate, size, [&](V g, size_t i, size_t count) {
    // Exp is defined up to 104; past 88 the quotient is zero either way.
    const V silu = hn::Div(g, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(g), hn::Set(d, 88.0f)))));
    alignas(64) float factors[kLanes] = {};
    std::memcpy(factors, up + i, count * sizeof(float));
    StoreFirst(hn::Mul(silu, hn::Load(d, factors)), gate + i, count);
  });
}

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), which is x / (1 + exp(-2 sqrt(2/pi) (...))).
void Gelu(float* x, size_t size) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  ForEachVector(x, size, [&](V v, size_t i, size_t count) {
    const V cube = hn::Mul(hn::Mul(v, v), v);
    const V inner =
        hn::Mul(hn::Set(d, -2 * 0.7978845608028654f), hn::MulAdd(hn::Set(d, 0.044715f), cube, v));
    // Exp is defined up to 104; past 88 the quotient is zero either way.
    const V e = hn::Exp(d, hn::Min(inner, hn::Set(d, 88.0f)));
    StoreFirst(hn::Div(v, hn::Add(one, e)), x + i, count);
  });
}

// Quantises up to one vector; the lanes past `count` are zero.
HWY_INLINE VI QuantizeVector(V x, V inverse, uint8_t* to) {
  const VI values = hn::NearestInt(hn::Mul(x, inverse));
  const hn::Rebind<int8_t, DI> d8;
  hn::StoreU(hn::DemoteTo(d8, values), d8, reinterpret_cast<int8_t*>(to));
  return values;
}

// Block `index` of `size` values at `x`, as QuantizedRow says. Symmetric:
// the largest magnitude becomes 127.
void QuantizeBlock(const float* x, size_t size, size_t index, const QuantizedRow& layout,
                   uint8_t* out) {
  constexpr float kSmallest = 1e-30f;  // below it the inverse would overflow
  V largest = hn::Zero(D());
  ForEachVector(x, size, [&](V v, size_t, size_t) { largest = hn::Max(largest, hn::Abs(v)); });
  const float magnitude = hn::GetLane(hn::MaxOfLanes(D(), largest));
  const bool any = magnitude > kSmallest;
  const float scale = any ? magnitude * (1.0f / 127.0f) : 0.0f;
  const V inverse = hn::Set(D(), any ? 127.0f / magnitude : 0.0f);
  VI total = hn::Zero(DI());
  uint8_t* to = out + index * kQuantBlock;
  ForEachVector(x, size, [&](V v, size_t i, size_t) {
    total = hn::Add(total, QuantizeVector(v, inverse, to + i));
  });
  const int32_t sum = hn::GetLane(hn::SumOfLanes(DI(), total));
  const float scaled_sum = scale * static_cast<float>(sum);
  std::memcpy(out + layout.scales + index * 4, &scale, 4);
  const int32_t start = -8 * sum;
  std::memcpy(out + layout.starts + index * 4, &start, 4);
  std::memcpy(out + layout.scaled_sums + index * 4, &scaled_sum, 4);
}

void PrepareRow(InputFormat format, const float* x, size_t depth, uint8_t* out) {
  if (format == InputFormat::kFloat32) {
    std::memcpy(out, x, depth * sizeof(float));
    if (depth % 2 != 0) std::memset(out + depth * sizeof(float), 0, sizeof(float));
    return;
  }
  if (format == InputFormat::kBfloat16) {
    auto* to = reinterpret_cast<uint16_t*>(out);
    for (size_t k = 0; k < depth; ++k) to[k] = ToBfloat16(x[k]);
    if (depth % 2 != 0) to[depth] = 0;
    return;
  }
  const QuantizedRow layout(format, depth);
  if (format == InputFormat::kInt8Row) {
    std::memset(out + depth / 64 * 64, 0, layout.scales - depth / 64 * 64);
    return QuantizeBlock(x, depth, 0, layout, out);
  }
  for (size_t b = 0; b < layout.blocks; ++b) {
    QuantizeBlock(x + b * kQuantBlock, kQuantBlock, b, layout, out);
  }
}

InputFormat InputFormatOf(WeightFormat format) {
  if (IsBlockFormat(format)) return InputFormat::kInt8Block;
  if (format == WeightFormat::kInt8) return InputFormat::kInt8Row;
  return format == WeightFormat::kBf16 ? Bf16Weights::kInput : InputFormat::kFloat32;
}

}  // namespace
}  // namespace REPRISE_KERNELS_NAME
}  // namespace reprise
