// Where an element of a weight matrix lies once packed (kernel_args.h, mma.cuh).
#pragma once

#include <cstdint>

#include "core/model/cuda/kernel_args.h"

namespace reprise::cuda {

// In halves; `feature` is in packed order.
__host__ __device__ inline int64_t PackedIndex(int64_t feature, int32_t k, int32_t steps) {
  const int32_t row = static_cast<int32_t>(feature % kTileFeatures);
  const int32_t in_step = k % kStepDepth;
  const int32_t t = in_step / 8, product = in_step / 4 % 2, e = in_step % 4;
  const int32_t lane = row % 8 * 4 + t;
  return ((feature / kTileFeatures * steps + k / kStepDepth) * 2 + product) * 256 + lane * 8 +
         e / 2 * 4 + row / 8 * 2 + e % 2;
}

__host__ __device__ inline int64_t PackedFeature(int64_t feature, Interleave interleave) {
  if (interleave == Interleave::kNone) return feature;
  return feature / 8 * 16 + feature % 8 + (interleave == Interleave::kUp ? 8 : 0);
}

}  // namespace reprise::cuda
