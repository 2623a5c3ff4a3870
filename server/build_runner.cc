#include "server/build_runner.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/cpu_runner.h"
#ifdef REPRISE_CUDA
#include "core/model/cuda/cuda_runner.h"
#endif

namespace reprise::server {
namespace {

using config::v1::ServerConfig;

WeightChoice ToWeightChoice(config::v1::Dtype dtype) {
  switch (dtype) {
    case config::v1::DTYPE_FP32:
      return WeightChoice::kFp32;
    case config::v1::DTYPE_BF16:
      return WeightChoice::kBf16;
    case config::v1::DTYPE_FP16:
      return WeightChoice::kFp16;
    case config::v1::DTYPE_INT8:
      return WeightChoice::kInt8;
    default:
      return WeightChoice::kAsStored;
  }
}

Dtype ToKvDtype(config::v1::Dtype dtype) {
  if (dtype == config::v1::DTYPE_FP32) return Dtype::kFloat32;
  return dtype == config::v1::DTYPE_FP16 ? Dtype::kFloat16 : Dtype::kBfloat16;
}

absl::StatusOr<BuiltRunner> BuildCpuRunner(const ServerConfig& config, const LoadedModel& model) {
  CpuRunnerOptions options;
  options.num_threads = config.model().thread_count();
  options.weights = ToWeightChoice(config.model().weight_dtype());
  options.kv_dtype = ToKvDtype(config.model().kv_dtype());
  options.kv_pool_bytes = config.cache().host_bytes();
  BuiltRunner built{nullptr, WeightChoiceName(options.weights), DtypeName(options.kv_dtype)};
  ASSIGN_OR_RETURN(built.runner, CreateCpuRunner(model, options));
  return built;
}

#ifdef REPRISE_CUDA
absl::StatusOr<BuiltRunner> BuildCudaRunner(const ServerConfig& config, const LoadedModel& model) {
  CudaRunnerOptions options;
  options.device = config.model().device_index();
  const WeightChoice weights = ToWeightChoice(config.model().weight_dtype());
  if (weights == WeightChoice::kFp32 || weights == WeightChoice::kInt8) {
    return absl::InvalidArgumentError(
        absl::StrCat("model.weight_dtype: ", WeightChoiceName(weights),
                     ", expected AS_STORED, FP16 or BF16 with model.device: CUDA"));
  }
  options.weight_dtype = weights == WeightChoice::kBf16 ? Dtype::kBfloat16 : Dtype::kFloat16;
  options.kv_dtype = ToKvDtype(config.model().kv_dtype());
  options.kv_pool_bytes = config.cache().device_bytes();
  BuiltRunner built{nullptr, DtypeName(options.weight_dtype), DtypeName(options.kv_dtype)};
  auto runner = CreateCudaRunner(model, options);
  if (!runner.ok()) {
    return absl::Status(runner.status().code(),
                        absl::StrCat("model.device: CUDA: ", runner.status().message()));
  }
  built.runner = *std::move(runner);
  return built;
}
#else
absl::StatusOr<BuiltRunner> BuildCudaRunner(const ServerConfig&, const LoadedModel&) {
  return absl::InvalidArgumentError(
      "model.device: CUDA, which this build is without; configure it with -DREPRISE_CUDA=ON");
}
#endif

}  // namespace

absl::StatusOr<BuiltRunner> BuildRunner(const ServerConfig& config, const LoadedModel& model) {
  return config.model().device() == config::v1::DEVICE_CUDA ? BuildCudaRunner(config, model)
                                                            : BuildCpuRunner(config, model);
}

}  // namespace reprise::server
