// What becomes of a product's sums. Both product kernels end here, so that they agree.
#pragma once

#include "core/model/cuda/mma.cuh"

namespace reprise::cuda {

inline constexpr float kLog2E = 1.4426950408889634f;

__device__ __forceinline__ float Sigmoid(float x) { return 1.0f / (1.0f + Exp2(-x * kLog2E)); }

__device__ __forceinline__ float Silu(float x) { return x * Sigmoid(x); }

// Source: Hendrycks and Gimpel 2016, arXiv 1606.08415: the tanh approximation, of which
// 0.5 (1 + tanh u) is sigmoid(2 u).
__device__ __forceinline__ float Gelu(float x) {
  const float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
  return x * Sigmoid(2.0f * u);
}

constexpr bool IsGated(Epilogue epilogue) {
  return epilogue == Epilogue::kGatedSilu || epilogue == Epilogue::kGatedGelu;
}

// What an output is made of. Read for all outputs of a thread before the first is written:
// the compiler must take a write for one to what the next is read from.
struct EpilogueInput {
  float bias = 0, up_bias = 0;  // of the feature; gated: of the gate and of its partner
  float old = 0;                // kAdd: what is added to
};

// Column of the output that a feature in packed order becomes; gated: the gate's.
template <Epilogue kEpilogue>
__device__ __forceinline__ int OutputColumn(int feature) {
  return IsGated(kEpilogue) ? feature / 16 * 8 + feature % 8 : feature;
}

template <Epilogue kEpilogue>
__device__ __forceinline__ EpilogueInput ReadInput(const ProductArgs& args, int row, int feature) {
  EpilogueInput input;
  if (args.bias != nullptr) {
    input.bias = args.bias[feature];
    if (IsGated(kEpilogue)) input.up_bias = args.bias[feature + 8];
  }
  const bool inside = row < args.rows && feature < args.weights.features;
  if (kEpilogue == Epilogue::kAdd && inside) {
    input.old = args.y[static_cast<int64_t>(row) * args.stride + feature];
  }
  return input;
}

// Of the epilogues that give halves.
template <Epilogue kEpilogue>
__device__ __forceinline__ float Activate(float sum, float up) {
  if constexpr (kEpilogue == Epilogue::kGelu) return Gelu(sum);
  if constexpr (kEpilogue == Epilogue::kGatedSilu) return Silu(sum) * up;
  return Gelu(sum) * up;
}

// `feature` is in packed order; gated: the gate's, `sum` and `up` its and its partner's.
template <typename T, Epilogue kEpilogue>
__device__ __forceinline__ void Finish(const ProductArgs& args, int row, int feature, float sum,
                                       float up, const EpilogueInput& input) {
  const int column = OutputColumn<kEpilogue>(feature);
  if (row >= args.rows || column >= args.weights.features) return;
  sum += input.bias;
  up += input.up_bias;
  const int64_t at = static_cast<int64_t>(row) * args.stride + column;
  if constexpr (kEpilogue == Epilogue::kStore) {
    args.y[at] = sum;
  } else if constexpr (kEpilogue == Epilogue::kAdd) {
    args.y[at] = input.old + sum;
  } else {
    static_cast<T*>(args.out)[at] = To<T>(Activate<kEpilogue>(sum, up));
  }
}

// Calls `function` with the epilogue as a constant.
template <Epilogue kValue>
struct EpilogueConstant {
  static constexpr Epilogue value = kValue;
};
template <typename Function>
auto WithEpilogue(Epilogue epilogue, const Function& function) {
  switch (epilogue) {
    case Epilogue::kStore:
      return function(EpilogueConstant<Epilogue::kStore>());
    case Epilogue::kAdd:
      return function(EpilogueConstant<Epilogue::kAdd>());
    case Epilogue::kGelu:
      return function(EpilogueConstant<Epilogue::kGelu>());
    case Epilogue::kGatedSilu:
      return function(EpilogueConstant<Epilogue::kGatedSilu>());
    case Epilogue::kGatedGelu:
      break;
  }
  return function(EpilogueConstant<Epilogue::kGatedGelu>());
}

}  // namespace reprise::cuda
