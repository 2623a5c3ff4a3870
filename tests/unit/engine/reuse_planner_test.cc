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
    const int32_t prompt = c.snapshot.prompt_tokens, depth = std::max(c.memory, c.disk);
    EXPECT_EQ(plan.predicted_cold_prefill, costs.PredictPrefill(prompt, 0)) << c.name;
    EXPECT_EQ(plan.predicted_prefill, costs.PredictPrefill(prompt - depth, depth)) << c.name;
    const int64_t bytes = c.disk > 0 ? c.snapshot.load_bytes : 0;
    EXPECT_EQ(plan.predicted_load, costs.PredictLoad(bytes)) << c.name;
  }
}

}  // namespace
}  // namespace reprise
