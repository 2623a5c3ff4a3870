// Shadow verification: while nothing else runs, prompts whose KV was reused are computed
// again, cold, and compared with what was reused, bit for bit.
#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/engine/engine_impl.h"

namespace reprise {
namespace {

constexpr size_t kMaxShadows = 8;  // that wait; each holds its prompt's blocks
constexpr int32_t kPoolShare = 8;  // a prompt may take that part of the pool again
// So that a request that comes need not wait long.
constexpr int32_t kRowsPerStep = 64;
constexpr size_t kBlocksPerTurn = 8;  // that are compared

}  // namespace

// Every so many hits, by the ratio; what is held is what was reused, not what is cached later.
void EngineImpl::QueueShadow(const Sequence& sequence, const Usage& usage) {
  if (options_.shadow_verify_percent <= 0 || usage.cached_tokens == 0) return;
  shadow_credit_ += options_.shadow_verify_percent;
  if (shadow_credit_ < 100) return;
  shadow_credit_ -= 100;
  const int32_t whole = sequence.prompt_size() / kBlockTokens;
  if (whole == 0 || whole > blocks_.num_blocks() / kPoolShare || shadows_.size() >= kMaxShadows) {
    parts_.metrics->ShadowVerified(ShadowResult::kSkipped);
    return;
  }
  Shadow shadow;
  shadow.in = sequence.cache;
  shadow.ids.assign(sequence.request.prompt.begin(),
                    sequence.request.prompt.begin() + whole * kBlockTokens);
  shadow.reused.assign(sequence.blocks.begin(), sequence.blocks.begin() + whole);
  for (const BlockId block : shadow.reused) blocks_.Hold(block);
  shadows_.push_back(std::move(shadow));
}

// A part of the first one's prompt, or of its comparison.
void EngineImpl::StepShadow() {
  if (shadows_.empty()) return;
  Shadow& shadow = shadows_.front();
  const auto left = static_cast<int32_t>(shadow.ids.size()) - shadow.computed;
  if (left == 0) {
    if (const auto result = CompareShadow(shadow)) EndShadow(*result);
    return;
  }
  const int32_t rows = std::min(left, kRowsPerStep);
  while (static_cast<int32_t>(shadow.cold.size()) < BlocksFor(shadow.computed + rows)) {
    const auto block = blocks_.Allocate(shadow.in->id);
    if (!block.ok()) return EndShadow(ShadowResult::kSkipped);
    shadow.cold.push_back(*block);
  }
  StepSequence step;
  step.tokens = absl::MakeConstSpan(shadow.ids).subspan(shadow.computed, rows);
  step.start_position = shadow.computed;
  step.block_table = shadow.cold;
  StepBatch batch;
  batch.sequences.push_back(step);
  if (!parts_.runner->Step(batch).ok()) return EndShadow(ShadowResult::kSkipped);
  shadow.computed += rows;
}

// Some more blocks; no result yet: more are to come.
std::optional<ShadowResult> EngineImpl::CompareShadow(Shadow& shadow) {
  const auto size = static_cast<size_t>(parts_.runner->block_bytes());
  std::vector<uint8_t> cold(size), reused(size);
  const size_t end = std::min(shadow.compared + kBlocksPerTurn, shadow.cold.size());
  for (size_t& i = shadow.compared; i < end; ++i) {
    if (!parts_.runner->ReadBlock(shadow.cold[i], absl::MakeSpan(cold)).ok() ||
        !parts_.runner->ReadBlock(shadow.reused[i], absl::MakeSpan(reused)).ok()) {
      return ShadowResult::kSkipped;
    }
    if (std::memcmp(cold.data(), reused.data(), size) == 0) continue;
    Tell("shadow_mismatch", absl::DataLossError(absl::StrCat(
                                "KV of tokens ", i * kBlockTokens, " to ",
                                (i + 1) * kBlockTokens - 1, " of a prompt of ", shadow.ids.size(),
                                " tokens differs from what computing them anew gives")));
    return ShadowResult::kMismatch;
  }
  if (end < shadow.cold.size()) return std::nullopt;
  return ShadowResult::kMatch;
}

// What did not match is reused no more, as far as nothing else hangs from it.
void EngineImpl::EndShadow(ShadowResult result) {
  const Shadow shadow = std::move(shadows_.front());
  shadows_.pop_front();
  for (const BlockId block : shadow.cold) blocks_.Release(block);
  for (const BlockId block : shadow.reused) blocks_.Release(block);
  parts_.metrics->ShadowVerified(result);
  if (result != ShadowResult::kMismatch) return;
  const absl::Time now = parts_.clock->Now();
  blocks_.SetExpiry(shadow.in->id, shadow.ids, now);
  if (StoreOn()) shadow.in->disk.SetExpiry(shadow.ids, now);
}

// A request that waits for room comes first.
void EngineImpl::MakeRoomOfShadows() {
  while (!shadows_.empty() && !queued_.empty() && !NextAdmitted()) {
    EndShadow(ShadowResult::kSkipped);
  }
}

}  // namespace reprise
