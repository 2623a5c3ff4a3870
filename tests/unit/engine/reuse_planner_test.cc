#include "core/engine/reuse_planner.h"

#include <gtest/gtest.h>

namespace reprise {
namespace {

// With the priors a token costs about 1 ms and a load 0.5 ms and 1 ms a megabyte.
constexpr int64_t kCheap = 1000, kDear = int64_t{10} << 30;

struct Case {
  const char* name;
  // {prompt, memory, disk, load bytes, policy, minimum, miss reason, full prefix refused}
  ReuseSnapshot snapshot;
  int32_t memory, disk;  // of the plan
  ReuseDecision decision;
  ReuseReason reason = ReuseReason::kNone;
  MissReason miss = MissReason::kNone;
  int32_t ideal = 0;
};

using P = CachePolicy;
using D = ReuseDecision;
using R = ReuseReason;
using M = MissReason;

const Case kCases[] = {
    {"memory match", {100, 64, 0, 0}, 64, 0, D::kReused, R::kFasterToLoad, M::kNone, 64},
    {"memory holds as much as disk",
     {100, 64, 64, 0},
     64,
     0,
     D::kReused,
     R::kFasterToLoad,
     M::kNone,
     64},
    {"cheap load", {100, 0, 64, kCheap}, 0, 64, D::kReused, R::kFasterToLoad, M::kNone, 64},
    {"cheap load behind memory",
     {200, 32, 150, kCheap},
     32,
     150,
     D::kReused,
     R::kFasterToLoad,
     M::kNone,
     150},
    {"dear load", {100, 0, 64, kDear}, 0, 0, D::kRecomputed, R::kSlowerToLoad, M::kNone, 64},
    {"dear load behind memory",
     {200, 32, 150, kDear},
     32,
     0,
     D::kPartial,
     R::kSlowerToLoad,
     M::kNone,
     150},
    {"a load that saves less than a pass",
     {8, 0, 7, kCheap},
     0,
     0,
     D::kRecomputed,
     R::kSlowerToLoad,
     M::kNone,
     7},
    {"forced dear load",
     {100, 0, 64, kDear, P::kForce},
     0,
     64,
     D::kReused,
     R::kForced,
     M::kNone,
     64},
    {"forced memory match",
     {100, 20, 0, 0, P::kForce},
     20,
     0,
     D::kReused,
     R::kForced,
     M::kNone,
     20},
    {"forced miss",
     {100, 0, 0, 0, P::kForce, 0, M::kDiverges},
     0,
     0,
     D::kMiss,
     R::kNone,
     M::kDiverges,
     0},
    {"read only reuses as USE",
     {100, 0, 64, kCheap, P::kReadOnly},
     0,
     64,
     D::kReused,
     R::kFasterToLoad,
     M::kNone,
     64},
    {"read only refuses a dear load",
     {100, 0, 64, kDear, P::kReadOnly},
     0,
     0,
     D::kRecomputed,
     R::kSlowerToLoad,
     M::kNone,
     64},
    {"bypass",
     {100, 64, 64, 0, P::kBypass},
     0,
     0,
     D::kBypassed,
     R::kPolicyBypass,
     M::kBypassed,
     64},
    {"minimum reached",
     {100, 64, 0, 0, P::kUse, 64},
     64,
     0,
     D::kReused,
     R::kFasterToLoad,
     M::kNone,
     64},
    {"below the minimum",
     {100, 64, 0, 0, P::kUse, 65},
     0,
     0,
     D::kRecomputed,
     R::kBelowMinimumDepth,
     M::kNone,
     64},
    {"forced below the minimum",
     {100, 64, 0, 0, P::kForce, 65},
     0,
     0,
     D::kRecomputed,
     R::kBelowMinimumDepth,
     M::kNone,
     64},
    {"minimum reached only by a dear load",
     {200, 32, 150, kDear, P::kUse, 100},
     0,
     0,
     D::kRecomputed,
     R::kBelowMinimumDepth,
     M::kNone,
     150},
    {"whole prompt in memory", {100, 100, 0, 0}, 99, 0, D::kReused, R::kFasterToLoad, M::kNone, 99},
    {"whole prompt on disk",
     {100, 0, 100, kCheap},
     0,
     99,
     D::kReused,
     R::kFasterToLoad,
     M::kNone,
     99},
    {"whole prompt in both", {100, 100, 100, 0}, 99, 0, D::kReused, R::kFasterToLoad, M::kNone, 99},
    {"a load that takes as long as computing is split",
     {1000, 0, 960, int64_t{960} << 20},
     0,
     960,
     D::kPartial,
     R::kFasterToSplit,
     M::kNone,
     960},
    {"a split behind memory",
     {1000, 200, 960, int64_t{760} << 20},
     200,
     960,
     D::kPartial,
     R::kFasterToSplit,
     M::kNone,
     960},
    {"forced loads are whole",
     {1000, 0, 960, int64_t{960} << 20, P::kForce},
     0,
     960,
     D::kReused,
     R::kForced,
     M::kNone,
     960},
    {"a segment is too short to split",
     {65, 0, 64, int64_t{50} << 20},
     0,
     64,
     D::kReused,
     R::kFasterToLoad,
     M::kNone,
     64},
    {"one token prompt",
     {1, 1, 1, kCheap, P::kUse, 0, M::kDiverges},
     0,
     0,
     D::kMiss,
     R::kNone,
     M::kTooShort,
     0},
    {"empty cache",
     {100, 0, 0, 0, P::kUse, 0, M::kCacheEmpty},
     0,
     0,
     D::kMiss,
     R::kNone,
     M::kCacheEmpty,
     0},
    {"diverges",
     {100, 0, 0, 0, P::kUse, 0, M::kDiverges},
     0,
     0,
     D::kMiss,
     R::kNone,
     M::kDiverges,
     0},
    {"no candidate",
     {100, 0, 0, 0, P::kUse, 0, M::kNoCandidate},
     0,
     0,
     D::kMiss,
     R::kNone,
     M::kNoCandidate,
     0},
    {"evicted", {100, 0, 0, 0, P::kUse, 0, M::kEvicted}, 0, 0, D::kMiss, R::kNone, M::kEvicted, 0},
    {"no embedding",
     {100, 0, 0, 0, P::kUse, 0, M::kEmbeddingFailed},
     0,
     0,
     D::kMiss,
     R::kNone,
     M::kEmbeddingFailed,
     0},
    {"full prefix refused",
     {100, 0, 0, 0, P::kUse, 0, M::kDiverges, true},
     0,
     0,
     D::kMiss,
     R::kFullPrefixRequired,
     M::kDiverges,
     0},
    {"a miss outranks the minimum",
     {100, 0, 0, 0, P::kUse, 10, M::kDiverges},
     0,
     0,
     D::kMiss,
     R::kNone,
     M::kDiverges,
     0},
};

TEST(ReusePlannerTest, DecidesByTheTable) {
  for (const Case& c : kCases) {
    const ReusePlan plan = PlanReuse(c.snapshot, CostModel());
    EXPECT_EQ(plan.memory_tokens, c.memory) << c.name;
    EXPECT_EQ(plan.disk_tokens, c.disk) << c.name;
    EXPECT_EQ(plan.decision, c.decision) << c.name;
    EXPECT_EQ(plan.reason, c.reason) << c.name;
    EXPECT_EQ(plan.miss_reason, c.miss) << c.name;
    EXPECT_EQ(plan.ideal_tokens, c.ideal) << c.name;
  }
}

TEST(ReusePlannerTest, PredictsWhatIsDoneAndWhatItReplaces) {
  const CostModel costs;
  for (const Case& c : kCases) {
    const ReusePlan plan = PlanReuse(c.snapshot, costs);
    if (plan.split_at > 0) continue;
    const int32_t prompt = c.snapshot.prompt_tokens, depth = std::max(c.memory, c.disk);
    EXPECT_EQ(plan.predicted_cold_prefill, costs.PredictPrefill(prompt, 0)) << c.name;
    EXPECT_EQ(plan.predicted_prefill, costs.PredictPrefill(prompt - depth, depth)) << c.name;
    const int64_t bytes = c.disk > 0 ? c.snapshot.load_bytes : 0;
    EXPECT_EQ(plan.predicted_load, costs.PredictLoad(bytes)) << c.name;
    EXPECT_EQ(plan.predicted_total, plan.predicted_load + plan.predicted_prefill) << c.name;
  }
}

// Against every place to meet, over prompts, depths and prices of a load: what is chosen is
// predicted to take at most 1.05 of the best, and the split beats what it replaces.
TEST(ReusePlannerTest, ChoosesTheBestOfLoadRecomputeAndSplit) {
  const CostModel costs;
  int splits = 0, loads = 0, computes = 0;
  for (const int32_t prompt : {65, 200, 500, 1000, 4000}) {
    for (const int32_t memory : {0, 30, 64, 300}) {
      for (const int32_t disk : {64, 190, 448, 960, 3990}) {
        if (memory >= disk || disk >= prompt) continue;
        for (int64_t bytes_per_token = 1 << 10; bytes_per_token <= 1 << 24; bytes_per_token *= 4) {
          const int64_t bytes = bytes_per_token * (disk - memory);
          const ReusePlan plan = PlanReuse({prompt, memory, disk, bytes}, costs);
          const absl::Duration rest = costs.PredictPrefill(prompt - disk, disk);
          const absl::Duration compute = costs.PredictPrefill(prompt - memory, memory);
          const absl::Duration load = costs.PredictLoad(bytes) + rest;
          absl::Duration best = std::min(compute, load);
          for (int32_t at = (memory / 64 + 1) * 64; at < disk; at += 64) {
            best =
                std::min(best, rest + std::max(costs.PredictPrefill(at - memory, memory),
                                               costs.PredictLoad(bytes_per_token * (disk - at))));
          }
          EXPECT_LE(plan.predicted_total, best * 1.0527) << prompt << " " << memory << " " << disk;
          if (plan.split_at > 0) {
            EXPECT_LT(plan.predicted_total, plan.predicted_alternative);
            EXPECT_EQ(plan.predicted_alternative, std::min(compute, load));
            ++splits;
          } else {
            ++(plan.disk_tokens > 0 ? loads : computes);
          }
        }
      }
    }
  }
  EXPECT_GT(splits, 10);
  EXPECT_GT(loads, 10);
  EXPECT_GT(computes, 10);
}

TEST(ReusePlannerTest, WhatTheReaderHasToReadBeforeCountsAsLoad) {
  ReuseSnapshot snapshot{200, 0, 190, 1000};
  EXPECT_GT(PlanReuse(snapshot, CostModel()).disk_tokens, 0);
  snapshot.queued_load_bytes = int64_t{10} << 30;
  EXPECT_EQ(PlanReuse(snapshot, CostModel()).disk_tokens, 0);
}

}  // namespace
}  // namespace reprise
