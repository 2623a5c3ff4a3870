#include "core/engine/prefix_sharing.h"

#include <gtest/gtest.h>

namespace reprise {
namespace {

using P = CachePolicy;

// With the priors a token costs about 1 ms and a pass 10 ms.
struct Case {
  const char* name;
  SharingSnapshot snapshot;  // {prompt, ready, minimum, policy, {{common, prompt of the other}}}
  int other;                 // -1: begins now
  int32_t tokens = 0;
  int32_t computed = 0;
};

const Case kCases[] = {
    {"nobody computes", {100, 0, 0, P::kUse, {}}, -1},
    {"nothing in common", {100, 0, 0, P::kUse, {{0, 100}}}, -1},
    {"whole blocks in common", {100, 0, 0, P::kUse, {{64, 200}}}, 0, 64, 64},
    {"a block in part is shared once it is whole", {100, 0, 0, P::kUse, {{70, 200}}}, 0, 70, 80},
    {"the other's prompt ends in that block", {100, 0, 0, P::kUse, {{70, 75}}}, 0, 70, 75},
    {"the same prompt, but for its last token", {100, 0, 0, P::kUse, {{100, 100}}}, 0, 99, 100},
    {"the request is a prefix of the other", {65, 0, 0, P::kUse, {{65, 300}}}, 0, 64, 64},
    {"the other is a prefix of the request", {300, 0, 0, P::kUse, {{65, 65}}}, 0, 65, 65},
    {"the deepest of several", {100, 0, 0, P::kUse, {{32, 99}, {64, 99}, {48, 99}}}, 1, 64, 64},
    {"the first of equals", {100, 0, 0, P::kUse, {{64, 99}, {64, 300}}}, 0, 64, 64},
    {"ready already", {100, 64, 0, P::kUse, {{64, 200}}}, -1},
    {"less than a block to gain", {100, 64, 0, P::kUse, {{79, 200}}}, -1},
    {"a block to gain", {100, 64, 0, P::kUse, {{80, 200}}}, 0, 80, 80},
    {"read only waits too", {100, 0, 0, P::kReadOnly, {{64, 200}}}, 0, 64, 64},
    {"bypass does not", {100, 0, 0, P::kBypass, {{64, 200}}}, -1},
    {"below the minimum", {100, 0, 65, P::kUse, {{64, 200}}}, -1},
    {"at the minimum", {100, 0, 64, P::kUse, {{64, 200}}}, 0, 64, 64},
    {"saves less than the pass it costs", {19, 0, 0, P::kUse, {{18, 200}}}, -1},
    {"forced", {20, 0, 0, P::kForce, {{18, 200}}}, 0, 18, 32},
    {"forced, with less than a block to gain", {20, 8, 0, P::kForce, {{18, 200}}}, -1},
    {"a load of as much as one would load", {100, 64, 0, P::kUse, {{64, 99, true}}}, 0, 64, 64},
    {"a load that is slower than computing", {100, 0, 0, P::kUse, {{64, 99, true}}}, -1},
    {"a load of less", {100, 64, 0, P::kUse, {{48, 99, true}}}, -1},
    {"a load of what is in memory", {100, 64, 0, P::kUse, {{64, 99, true}}, 64}, -1},
    {"one token", {1, 0, 0, P::kForce, {{1, 200}}}, -1},
};

TEST(PrefixSharingTest, DecidesByTheTable) {
  for (const Case& c : kCases) {
    const SharingPlan plan = PlanSharing(c.snapshot, CostModel());
    EXPECT_EQ(plan.other ? static_cast<int>(*plan.other) : -1, c.other) << c.name;
    EXPECT_EQ(plan.tokens, c.tokens) << c.name;
    EXPECT_EQ(plan.computed_tokens, c.computed) << c.name;
  }
}

}  // namespace
}  // namespace reprise
