#include "core/engine/prefix_sharing.h"

#include <algorithm>

#include "core/base/ids.h"

namespace reprise {
namespace {

bool PaysToWait(const SharingSnapshot& s, const PrefixInFlight& other, int32_t tokens,
                const CostModel& costs) {
  if (tokens < s.minimum_tokens || tokens < s.memory_tokens + kBlockTokens) return false;
  // Only who would load it too: for others computing is predicted to be faster.
  if (other.loading) return s.ready_tokens > s.memory_tokens && tokens >= s.ready_tokens;
  if (tokens < s.ready_tokens + kBlockTokens) return false;
  if (s.policy == CachePolicy::kForce) return true;
  const absl::Duration alone =
      costs.PredictPrefill(s.prompt_tokens - s.ready_tokens, s.ready_tokens);
  const absl::Duration after = costs.PredictPrefill(s.prompt_tokens - tokens, tokens);
  return alone - after > costs.PredictPrefill(1, s.ready_tokens);
}

}  // namespace

SharingPlan PlanSharing(const SharingSnapshot& s, const CostModel& costs) {
  SharingPlan plan;
  if (s.policy == CachePolicy::kBypass) return plan;
  std::optional<size_t> deepest;
  for (size_t i = 0; i < s.others.size(); ++i) {
    // The last prompt token is always computed: its logits choose the first token.
    const int32_t tokens = std::min(s.others[i].common_tokens, s.prompt_tokens - 1);
    if (tokens <= plan.tokens) continue;
    deepest = i;
    plan.tokens = tokens;
  }
  if (!deepest || !PaysToWait(s, s.others[*deepest], plan.tokens, costs)) return {};
  plan.other = deepest;
  // A block is shared once all of it is computed, or all of its prompt.
  const int32_t whole = (plan.tokens + kBlockTokens - 1) / kBlockTokens * kBlockTokens;
  plan.computed_tokens = std::min(whole, s.others[*deepest].prompt_tokens);
  return plan;
}

}  // namespace reprise
