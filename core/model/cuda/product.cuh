// The kernels behind LaunchProduct; their results are the same, bit for bit.
#pragma once

#include "core/model/cuda/kernel_args.h"

namespace reprise::cuda {

cudaError_t LaunchThinProduct(const ProductArgs& args, cudaStream_t stream);
cudaError_t LaunchWideProduct(const ProductArgs& args, cudaStream_t stream);

// Of rows in RowOrder::kTiles; features and stride are even. Devices of sm_90 alone.
inline constexpr int kTileShapes = 3;  // of thread blocks, for LaunchTileProductOf
cudaError_t LaunchTileProduct(const ProductArgs& args, cudaStream_t stream);
cudaError_t LaunchTileProductOf(int shape, const ProductArgs& args, cudaStream_t stream);

}  // namespace reprise::cuda
