// The reuse planner decides what one request reuses, and says why. A pure
// function: what was found in, what to do out.
//
// What is on disk is loaded, recomputed, or both at once: computed from the front
// while it is loaded from the back, until the two meet (Cake, arXiv 2410.03065). A
// split needs to be clearly faster, since it leaves less to be said of the disk tier.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "core/engine/cost_model.h"
#include "core/engine/request.h"

namespace reprise {

// What is done with what is on disk. Measurements compare the others with kBest.
enum class LoadWay { kBest, kCompute, kLoad, kSplit };

struct ReuseSnapshot {
  int32_t prompt_tokens = 0;
  int32_t memory_tokens = 0;  // matched in memory
  int32_t disk_tokens = 0;    // matched in the store, from position 0
  int64_t load_bytes = 0;     // payload to read for [memory_tokens, disk_tokens)
  CachePolicy policy = CachePolicy::kUse;
  int32_t minimum_tokens = 0;
  MissReason miss_reason = MissReason::kNone;  // why, should nothing match
  bool full_prefix_refused = false;            // SEMANTIC: the candidate was no full prefix
  int64_t queued_load_bytes = 0;               // that the reader has to read before
  LoadWay way = LoadWay::kBest;
};

struct ReusePlan {
  int32_t memory_tokens = 0;  // to share
  int32_t disk_tokens = 0;    // depth to load to; 0: load nothing
  int32_t split_at = 0;       // where computing and loading are to meet; 0: no split
  ReuseDecision decision = ReuseDecision::kMiss;
  ReuseReason reason = ReuseReason::kNone;
  MissReason miss_reason = MissReason::kNone;
  int32_t ideal_tokens = 0;
  absl::Duration predicted_load;
  absl::Duration predicted_prefill;
  absl::Duration predicted_cold_prefill;
  absl::Duration predicted_total;  // load and prefill; in a split they overlap
  // Of the best that was decided against; infinite: there was nothing to decide.
  absl::Duration predicted_alternative = absl::InfiniteDuration();
};

ReusePlan PlanReuse(const ReuseSnapshot& snapshot, const CostModel& costs);

}  // namespace reprise
