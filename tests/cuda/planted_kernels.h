// Wrong or failing CUDA launches that tests must notice.
//
// Threading  one test at a time: the failing one counts.
#pragma once

#include "core/model/cuda/kernel_args.h"

namespace reprise::cuda {

// Products that cut their reduction elsewhere when few rows run together.
inline Kernels PlantSplitReduction() {
  Kernels kernels;
  kernels.product = [](const ProductArgs& args, cudaStream_t stream) {
    ProductArgs planted = args;
    if (args.rows <= 64) planted.steps_per_slice = args.steps_per_slice + 1;
    return LaunchProduct(planted, stream);
  };
  return kernels;
}

// Attention whose scale is a little larger when few tiles run together.
inline Kernels PlantBatchDependentAttention() {
  Kernels kernels;
  kernels.attention = [](const AttentionArgs& args, cudaStream_t stream) {
    AttentionArgs planted = args;
    if (args.num_tiles + 4 * args.num_wide_tiles <= 2) planted.scale *= 1.0f + 0x1p-12f;
    return LaunchAttention(planted, stream);
  };
  return kernels;
}

}  // namespace reprise::cuda
