// In-flight sharing decides whether a request waits for a prefix that another one is
// computing, or loading, at this moment. A pure function: what is in flight in,
// what to wait for out.
//
// Waiting pays when it saves more than the pass that it may cost: the other
// computes the shared part before all else, so nobody is slower for it.
//
// Order      who may be waited for is the caller's to choose, so that no two wait for
//            each other: those that compute or load now, and of those that wait
//            themselves only the ones that were taken up before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/engine/cost_model.h"
#include "core/engine/request.h"

namespace reprise {

// A prefix that another request computes and will keep.
struct PrefixInFlight {
  int32_t common_tokens = 0;  // that its prompt and the request's have in common
  int32_t prompt_tokens = 0;  // of its prompt
  bool loading = false;       // from the store: what both would load is read once
};

struct SharingSnapshot {
  int32_t prompt_tokens = 0;
  int32_t ready_tokens = 0;    // what the request would reuse without waiting
  int32_t minimum_tokens = 0;  // GenerateRequest::minimum_reuse_tokens
  CachePolicy policy = CachePolicy::kUse;
  std::vector<PrefixInFlight> others;  // first taken up first
  int32_t memory_tokens = 0;           // of ready_tokens, what needs no load
};

struct SharingPlan {
  std::optional<size_t> other;  // of `others`, to wait for; none: begin now
  int32_t tokens = 0;           // that this would give in all
  int32_t computed_tokens = 0;  // that the other has to have computed for it: whole blocks
};

SharingPlan PlanSharing(const SharingSnapshot& snapshot, const CostModel& costs);

}  // namespace reprise
