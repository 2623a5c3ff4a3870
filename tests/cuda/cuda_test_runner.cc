#include "core/model/cuda/cuda_runner.h"
#include "tests/fakes/test_runner.h"

namespace reprise {

absl::StatusOr<std::unique_ptr<ModelRunner>> MakeTestRunner(const LoadedModel& model,
                                                            const TestRunnerOptions& options) {
  CudaRunnerOptions cuda;
  const bool bf16 =
      options.weights == WeightChoice::kBf16 || options.weights == WeightChoice::kAsStored;
  cuda.weight_dtype = bf16 ? Dtype::kBfloat16 : Dtype::kFloat16;
  cuda.kv_dtype = options.kv_dtype == Dtype::kBfloat16 ? Dtype::kBfloat16 : Dtype::kFloat16;
  cuda.kv_pool_bytes = options.kv_pool_bytes;
  return CreateCudaRunner(model, cuda);
}

}  // namespace reprise
