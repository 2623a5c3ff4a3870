// CpuRunner: the ModelRunner for CPUs. Weights are packed once at load; every
// matrix product reduces over K in one fixed order per output element, and
// attention walks keys from position 0 in blocks aligned to absolute positions.
//
// Threading  as ModelRunner; owns a pool of `num_threads` - 1 worker threads.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "core/model/load_model.h"
#include "core/model/model_runner.h"
#include "core/model/weight_format.h"

namespace reprise {

struct Kernels;  // core/model/kernels.h

struct CpuRunnerOptions {
  int num_threads = 0;                             // 0: one per hardware thread; at most 256
  WeightChoice weights = WeightChoice::kAsStored;  // in memory
  Dtype kv_dtype = Dtype::kBfloat16;
  int64_t kv_pool_bytes = int64_t{1} << 30;  // rounded down to whole blocks
  // Use an instruction set below the best one ("portable" in tests); empty: best.
  std::string instruction_set;
};

// kInvalidArgument naming the option or the tensor that does not fit.
absl::StatusOr<std::unique_ptr<ModelRunner>> CreateCpuRunner(const LoadedModel& model,
                                                             const CpuRunnerOptions& options);

// The same on the arithmetic of `kernels` whatever options.instruction_set says, so that a
// test can plant a wrong one. `kernels` outlives the runner.
absl::StatusOr<std::unique_ptr<ModelRunner>> CreateCpuRunnerWith(const Kernels& kernels,
                                                                 const LoadedModel& model,
                                                                 const CpuRunnerOptions& options);

// Runs a short prompt cold, split and beside batch mates, and compares KV and
// logits bit for bit. OK when they agree; kDataLoss saying what differed.
// Uses blocks [0, 8) of the runner, which must be free.
absl::Status ProbeExactness(ModelRunner& runner);

}  // namespace reprise
