// The two kernels behind LaunchProduct; their results are the same, bit for bit.
#pragma once

#include "core/model/cuda/kernel_args.h"

namespace reprise::cuda {

cudaError_t LaunchThinProduct(const ProductArgs& args, cudaStream_t stream);
cudaError_t LaunchWideProduct(const ProductArgs& args, cudaStream_t stream);

}  // namespace reprise::cuda
