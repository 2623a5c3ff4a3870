// What every runner does with a StepBatch, whatever computes it: the checks before a
// step, and what is sampled after a draft.
//
// Threading  pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/model/model_runner.h"

namespace reprise {

struct StepLimits {
  int32_t context_length;
  int32_t vocabulary_size;
  int32_t num_blocks;
  int64_t block_bytes;
};

// kInvalidArgument naming what is out of range.
absl::Status CheckStep(const StepBatch& batch, const StepLimits& limits);
absl::Status CheckBlock(BlockId block, size_t bytes, const StepLimits& limits);
absl::Status CheckCopy(BlockId from, BlockId to, int32_t tokens, const StepLimits& limits);

inline size_t CountRows(const StepSequence& s) { return s.tokens.size() + s.draft.size(); }

// One row after `tokens` and one after each draft token.
inline size_t CountLogitRows(const StepSequence& s) {
  return s.sample || s.want_logits ? 1 + s.draft.size() : 0;
}

struct Sampled {
  TokenId token = 0;
  int32_t accepted = 0;
};

// Chooses after the last token and then after each draft token for as long as the draft
// says what was chosen. `choose(accepted, history, position)` gives the token after
// draft[0, accepted), as a step of its own would; `position` is that of the last one there.
Sampled SampleAfterDraft(
    const StepSequence& sequence,
    absl::FunctionRef<TokenId(int32_t, const SamplingHistory&, int64_t)> choose);

// Calls `clear(block, tokens)` for each block of which only the first `tokens` slots stay,
// since `accepted` draft tokens do.
void ForEachRejected(const StepSequence& sequence, int32_t accepted,
                     absl::FunctionRef<void(BlockId, int32_t)> clear);

}  // namespace reprise
