#include "core/model/step_batch.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

absl::Status CheckTokens(absl::Span<const TokenId> tokens, int32_t vocabulary_size) {
  for (const TokenId token : tokens) {
    if (token >= 0 && token < vocabulary_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("token ", token, " is not in [0, ", vocabulary_size, ")"));
  }
  return absl::OkStatus();
}

absl::Status CheckSequence(const StepSequence& sequence, const StepLimits& limits) {
  const int64_t end = int64_t{sequence.start_position} + CountRows(sequence);
  if (sequence.tokens.empty() || sequence.start_position < 0 || end > limits.context_length) {
    return absl::InvalidArgumentError(absl::StrCat("tokens at [", sequence.start_position, ", ",
                                                   end, ") do not fit the context of ",
                                                   limits.context_length));
  }
  if (!sequence.draft.empty() && !sequence.sample) {
    return absl::InvalidArgumentError(absl::StrCat("a draft of ", sequence.draft.size(),
                                                   " tokens for a sequence that does not sample"));
  }
  RETURN_IF_ERROR(CheckTokens(sequence.tokens, limits.vocabulary_size));
  RETURN_IF_ERROR(CheckTokens(sequence.draft, limits.vocabulary_size));
  const size_t blocks = (end + kBlockTokens - 1) / kBlockTokens;
  if (sequence.block_table.size() < blocks) {
    return absl::InvalidArgumentError(absl::StrCat("the block table has ",
                                                   sequence.block_table.size(), " blocks, ", end,
                                                   " positions need ", blocks));
  }
  for (const BlockId block : sequence.block_table) {
    RETURN_IF_ERROR(CheckBlock(block, limits.block_bytes, limits));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckBlock(BlockId block, size_t bytes, const StepLimits& limits) {
  if (block < 0 || block >= limits.num_blocks) {
    return absl::InvalidArgumentError(
        absl::StrCat("block ", block, " is not in [0, ", limits.num_blocks, ")"));
  }
  if (bytes != static_cast<size_t>(limits.block_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a block has ", limits.block_bytes, " bytes, not ", bytes));
  }
  return absl::OkStatus();
}

absl::Status CheckCopy(BlockId from, BlockId to, int32_t tokens, const StepLimits& limits) {
  RETURN_IF_ERROR(CheckBlock(from, limits.block_bytes, limits));
  RETURN_IF_ERROR(CheckBlock(to, limits.block_bytes, limits));
  if (tokens >= 0 && tokens <= kBlockTokens) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("cannot copy ", tokens, " tokens of block ", from,
                                                 ", expected 0 to ", kBlockTokens));
}

absl::Status CheckStep(const StepBatch& batch, const StepLimits& limits) {
  if (batch.sequences.empty()) return absl::InvalidArgumentError("the batch has no sequence");
  for (const StepSequence& sequence : batch.sequences) {
    RETURN_IF_ERROR(CheckSequence(sequence, limits));
  }
  return absl::OkStatus();
}

Sampled SampleAfterDraft(
    const StepSequence& sequence,
    absl::FunctionRef<TokenId(int32_t, const SamplingHistory&, int64_t)> choose) {
  const auto generated = sequence.history.generated;
  std::vector<TokenId> ids(generated.begin(), generated.end());
  ids.insert(ids.end(), sequence.draft.begin(), sequence.draft.end());
  const int64_t last = sequence.start_position + static_cast<int64_t>(sequence.tokens.size()) - 1;
  for (int32_t accepted = 0;; ++accepted) {
    const SamplingHistory history{sequence.history.prompt,
                                  absl::MakeConstSpan(ids).subspan(0, generated.size() + accepted)};
    const TokenId token = choose(accepted, history, last + accepted);
    const bool drafted = static_cast<size_t>(accepted) < sequence.draft.size();
    if (!drafted || token != sequence.draft[accepted]) return {token, accepted};
  }
}

void ForEachRejected(const StepSequence& sequence, int32_t accepted,
                     absl::FunctionRef<void(BlockId, int32_t)> clear) {
  const auto end = sequence.start_position + static_cast<int32_t>(CountRows(sequence));
  int32_t position =
      sequence.start_position + static_cast<int32_t>(sequence.tokens.size()) + accepted;
  while (position < end) {
    clear(sequence.block_table[position / kBlockTokens], position % kBlockTokens);
    position += kBlockTokens - position % kBlockTokens;
  }
}

}  // namespace reprise
