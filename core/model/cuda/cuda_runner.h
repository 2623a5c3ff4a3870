// CudaRunner: the ModelRunner for NVIDIA GPUs from sm_75 up. Weights and KV are fp16 or
// bf16 (from sm_80 up), sums fp32; passes of one shape are captured as a CUDA graph and
// replayed. Greedy tokens are chosen on the device, others by SampleToken on the host.
//
// Exactness  as ModelRunner. All products run kernels of our own whose order of reduction
//            is a function of the depth, and attention adds up blocks of 64 keys in order:
//            docs/adr/0003-own-the-gpu-reductions.md. numerics_id() names device
//            architecture, that of the machine code, kernel version and dtypes.
// Errors     as ModelRunner. After kInternal every call returns it.
// Threading  as ModelRunner. Blocks are read and written on the runner's stream.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "core/model/load_model.h"
#include "core/model/model_runner.h"

namespace reprise {

namespace cuda {
struct Kernels;  // core/model/cuda/kernel_args.h
}

struct CudaRunnerOptions {
  int device = 0;
  Dtype weight_dtype = Dtype::kFloat16;      // kFloat16 or kBfloat16
  Dtype kv_dtype = Dtype::kFloat16;          // likewise
  int64_t kv_pool_bytes = int64_t{1} << 30;  // of device memory; rounded down to whole blocks
  bool capture_graphs = true;
};

// kFailedPrecondition: no such device. kInvalidArgument naming the option or the tensor
// that does not fit. kResourceExhausted: too little device memory.
absl::StatusOr<std::unique_ptr<ModelRunner>> CreateCudaRunner(const LoadedModel& model,
                                                              const CudaRunnerOptions& options);

// The same on the arithmetic of `kernels`, so that a test can plant a wrong one. `kernels`
// outlives the runner.
absl::StatusOr<std::unique_ptr<ModelRunner>> CreateCudaRunnerWith(const cuda::Kernels& kernels,
                                                                  const LoadedModel& model,
                                                                  const CudaRunnerOptions& options);

}  // namespace reprise
