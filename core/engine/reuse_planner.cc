#include "core/engine/reuse_planner.h"

#include <algorithm>

namespace reprise {
namespace {

ReusePlan Recompute(ReusePlan plan, ReuseDecision decision, ReuseReason reason) {
  plan.memory_tokens = 0;
  plan.disk_tokens = 0;
  plan.decision = decision;
  plan.reason = reason;
  plan.predicted_prefill = plan.predicted_cold_prefill;
  plan.predicted_load = absl::ZeroDuration();
  return plan;
}

ReusePlan Miss(ReusePlan plan, const ReuseSnapshot& s) {
  plan.miss_reason = s.prompt_tokens < 2 ? MissReason::kTooShort : s.miss_reason;
  return Recompute(plan, ReuseDecision::kMiss,
                   s.full_prefix_refused ? ReuseReason::kFullPrefixRequired : ReuseReason::kNone);
}

}  // namespace

ReusePlan PlanReuse(const ReuseSnapshot& s, const CostModel& costs) {
  ReusePlan plan;
  plan.predicted_cold_prefill = costs.PredictPrefill(s.prompt_tokens, 0);
  plan.predicted_prefill = plan.predicted_cold_prefill;
  // The last prompt token is always computed: its logits choose the first token.
  const int32_t usable = s.prompt_tokens - 1;
  const int32_t memory = std::min(s.memory_tokens, usable);
  const int32_t disk = std::min(s.disk_tokens, usable);
  plan.ideal_tokens = std::max(memory, disk);
  if (s.policy == CachePolicy::kBypass) {
    plan.miss_reason = MissReason::kBypassed;
    return Recompute(plan, ReuseDecision::kBypassed, ReuseReason::kPolicyBypass);
  }
  if (plan.ideal_tokens == 0) return Miss(plan, s);

  const bool force = s.policy == CachePolicy::kForce;
  const absl::Duration shared = costs.PredictPrefill(s.prompt_tokens - memory, memory);
  const absl::Duration load = costs.PredictLoad(s.load_bytes);
  const absl::Duration loaded = costs.PredictPrefill(s.prompt_tokens - disk, disk);
  const bool worth_loading = disk > memory && (force || load + loaded < shared);
  const int32_t depth = worth_loading ? disk : memory;
  if (depth < s.minimum_tokens) {
    return Recompute(plan, ReuseDecision::kRecomputed, ReuseReason::kBelowMinimumDepth);
  }
  if (depth == 0) {
    return Recompute(plan, ReuseDecision::kRecomputed, ReuseReason::kSlowerToLoad);
  }
  plan.memory_tokens = memory;
  plan.disk_tokens = worth_loading ? disk : 0;
  plan.predicted_load = worth_loading ? load : absl::ZeroDuration();
  plan.predicted_prefill = worth_loading ? loaded : shared;
  plan.decision = depth == plan.ideal_tokens ? ReuseDecision::kReused : ReuseDecision::kPartial;
  plan.reason = force                        ? ReuseReason::kForced
                : depth == plan.ideal_tokens ? ReuseReason::kFasterToLoad
                                             : ReuseReason::kSlowerToLoad;
  return plan;
}

}  // namespace reprise
