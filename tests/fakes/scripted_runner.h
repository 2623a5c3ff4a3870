// ScriptedRunner: a ModelRunner without a model. A token's "KV" is its id, and
// the next token is a hash of all ids read back through the block table, so a
// wrong block, a wrong position or damaged KV changes the output.
//
// Threading  as ModelRunner; the callbacks run on the thread that steps.
#pragma once

#include <functional>
#include <memory>

#include "core/model/model_runner.h"

namespace reprise {

struct ScriptedRunnerOptions {
  int32_t num_blocks = 256;
  int32_t context_length = 2048;
  int32_t vocabulary_size = 257;  // the byte tokenizer's
  // Only this many last ids decide the next one, so that the text soon repeats; 0: all.
  int32_t hashed_ids = 0;
  // May block: holds the engine in a step.
  std::function<void(const StepBatch&)> before_step;
  // Not OK: the step fails, and its new tokens' KV is garbage.
  std::function<absl::Status()> fail_step;
};

// Produces the ids of 'a' to 'z' only, and never one that is banned.
std::unique_ptr<ModelRunner> CreateScriptedRunner(const ScriptedRunnerOptions& options);

}  // namespace reprise
