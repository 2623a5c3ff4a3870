#include "core/engine/reuse_planner.h"

#include <algorithm>

#include "core/base/ids.h"

namespace reprise {
namespace {

constexpr double kSplitGain = 0.95;  // what a split takes at most, of the better simple way

ReusePlan Recompute(ReusePlan plan, ReuseDecision decision, ReuseReason reason) {
  plan.decision = decision;
  plan.reason = reason;
  plan.predicted_prefill = plan.predicted_total = plan.predicted_cold_prefill;
  return plan;
}

ReusePlan Miss(ReusePlan plan, const ReuseSnapshot& s) {
  plan.miss_reason = s.prompt_tokens < 2 ? MissReason::kTooShort : s.miss_reason;
  return Recompute(plan, ReuseDecision::kMiss,
                   s.full_prefix_refused ? ReuseReason::kFullPrefixRequired : ReuseReason::kNone);
}

// One way to the first token.
struct Way {
  int32_t depth = 0;     // reused, the split's computed part included
  int32_t split_at = 0;  // 0: no split
  absl::Duration load, prefill;
  absl::Duration total = absl::InfiniteDuration();
};

Way ComputeBehind(const ReuseSnapshot& s, int32_t depth, const CostModel& costs) {
  Way way;
  way.depth = depth;
  way.prefill = way.total = costs.PredictPrefill(s.prompt_tokens - depth, depth);
  return way;
}

Way LoadAll(const ReuseSnapshot& s, int32_t disk, const CostModel& costs) {
  Way way = ComputeBehind(s, disk, costs);
  way.load = costs.PredictLoad(s.queued_load_bytes + s.load_bytes);
  way.total += way.load;
  return way;
}

// With the best of the places to meet, which are where segments begin.
Way BestSplit(const ReuseSnapshot& s, int32_t memory, int32_t disk, const CostModel& costs) {
  Way best;
  const Way rest = ComputeBehind(s, disk, costs);
  const double bytes_per_token = static_cast<double>(s.load_bytes) / (disk - memory);
  const int32_t first = (memory / kSegmentTokens + 1) * kSegmentTokens;
  for (int32_t at = first; at < disk; at += kSegmentTokens) {
    const auto bytes = static_cast<int64_t>(bytes_per_token * (disk - at));
    const absl::Duration front = costs.PredictPrefill(at - memory, memory);
    const absl::Duration load = costs.PredictLoad(s.queued_load_bytes + bytes);
    const absl::Duration total = std::max(front, load) + rest.total;
    if (total < best.total) best = {disk, at, load, front + rest.prefill, total};
    if (front > load) break;  // further on computing only gets longer
  }
  return best;
}

// What to do with what is on disk; `other`: the best of what was decided against.
Way Choose(const ReuseSnapshot& s, const Way& compute, int32_t disk, const CostModel& costs,
           absl::Duration& other) {
  const int32_t memory = compute.depth;
  if (disk <= memory) return compute;
  const Way load = LoadAll(s, disk, costs);
  const bool forced = s.policy == CachePolicy::kForce || s.way == LoadWay::kLoad;
  const bool loads = forced || (s.way != LoadWay::kCompute && load.total < compute.total);
  other = loads ? compute.total : load.total;
  const Way& simple = loads ? load : compute;
  if (forced || s.way == LoadWay::kCompute) return simple;
  const Way split = BestSplit(s, memory, disk, costs);
  const double gain = s.way == LoadWay::kSplit ? 1e9 : kSplitGain;
  if (split.total >= simple.total * gain) return simple;
  other = simple.total;
  return split;
}

ReuseReason ReasonFor(const ReuseSnapshot& s, const Way& way, int32_t ideal) {
  if (s.policy == CachePolicy::kForce) return ReuseReason::kForced;
  if (way.split_at > 0) return ReuseReason::kFasterToSplit;
  return way.depth == ideal ? ReuseReason::kFasterToLoad : ReuseReason::kSlowerToLoad;
}

}  // namespace

ReusePlan PlanReuse(const ReuseSnapshot& s, const CostModel& costs) {
  ReusePlan plan;
  plan.predicted_cold_prefill = costs.PredictPrefill(s.prompt_tokens, 0);
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

  const Way compute = ComputeBehind(s, memory, costs);
  const Way way = Choose(s, compute, disk, costs, plan.predicted_alternative);
  if (way.depth < s.minimum_tokens) {
    return Recompute(plan, ReuseDecision::kRecomputed, ReuseReason::kBelowMinimumDepth);
  }
  if (way.depth == 0) {
    return Recompute(plan, ReuseDecision::kRecomputed, ReuseReason::kSlowerToLoad);
  }
  plan.memory_tokens = memory;
  plan.disk_tokens = way.depth > memory ? way.depth : 0;
  plan.split_at = way.split_at;
  plan.predicted_load = way.load;
  plan.predicted_prefill = way.prefill;
  plan.predicted_total = way.total;
  const bool all = way.depth == plan.ideal_tokens && way.split_at == 0;
  plan.decision = all ? ReuseDecision::kReused : ReuseDecision::kPartial;
  plan.reason = ReasonFor(s, way, plan.ideal_tokens);
  return plan;
}

}  // namespace reprise
