// MakeTestRunner: the runner that a test is built for. Tests of the contract of every
// runner are linked once with each implementation: tests/fakes/cpu_test_runner.cc,
// tests/cuda/cuda_test_runner.cc.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "core/model/load_model.h"
#include "core/model/model_runner.h"
#include "core/model/weight_format.h"

namespace reprise {

struct TestRunnerOptions {
  WeightChoice weights = WeightChoice::kAsStored;  // or the nearest that the device has
  Dtype kv_dtype = Dtype::kBfloat16;               // likewise
  int64_t kv_pool_bytes = int64_t{16} << 20;
};

absl::StatusOr<std::unique_ptr<ModelRunner>> MakeTestRunner(const LoadedModel& model,
                                                            const TestRunnerOptions& options);

}  // namespace reprise
