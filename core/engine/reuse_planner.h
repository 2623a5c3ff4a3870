// The reuse planner decides what one request reuses, and says why. A pure
// function: what was found in, what to do out.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "core/engine/cost_model.h"
#include "core/engine/request.h"

namespace reprise {

struct ReuseSnapshot {
  int32_t prompt_tokens = 0;
  int32_t memory_tokens = 0;  // matched in memory
  int32_t disk_tokens = 0;    // matched in the store, from position 0
  int64_t load_bytes = 0;     // payload to read for [memory_tokens, disk_tokens)
  CachePolicy policy = CachePolicy::kUse;
  int32_t minimum_tokens = 0;
  MissReason miss_reason = MissReason::kNone;  // why, should nothing match
  bool full_prefix_refused = false;            // SEMANTIC: the candidate was no full prefix
};

struct ReusePlan {
  int32_t memory_tokens = 0;  // to share
  int32_t disk_tokens = 0;    // depth to load to; 0: load nothing
  ReuseDecision decision = ReuseDecision::kMiss;
  ReuseReason reason = ReuseReason::kNone;
  MissReason miss_reason = MissReason::kNone;
  int32_t ideal_tokens = 0;
  absl::Duration predicted_load;
  absl::Duration predicted_prefill;
  absl::Duration predicted_cold_prefill;
};

ReusePlan PlanReuse(const ReuseSnapshot& snapshot, const CostModel& costs);

}  // namespace reprise
