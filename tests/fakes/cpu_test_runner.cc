#include "core/model/cpu_runner.h"
#include "tests/fakes/test_runner.h"

namespace reprise {

absl::StatusOr<std::unique_ptr<ModelRunner>> MakeTestRunner(const LoadedModel& model,
                                                            const TestRunnerOptions& options) {
  CpuRunnerOptions cpu;
  cpu.num_threads = 2;
  cpu.weights = options.weights;
  cpu.kv_dtype = options.kv_dtype;
  cpu.kv_pool_bytes = options.kv_pool_bytes;
  return CreateCpuRunner(model, cpu);
}

}  // namespace reprise
