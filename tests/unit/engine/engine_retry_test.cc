// A store that was switched off, or a vector index that could not be saved: who hears
// of it, and when it is tried again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

using Op = StoreOperation;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* kOff = "store_switched_off";
constexpr const char* kOn = "store_switched_on";

std::string Prompt(uint32_t i) { return Letters(i, 100); }

GenerateRequest ReadOnly(uint32_t i) { return TextRequest(Prompt(i), 0, CachePolicy::kReadOnly); }

// Three prompts in the store alone, and a store that is off since none could be read.
void LoseStore(EngineHarness& harness) {
  for (uint32_t i = 0; i < 3; ++i) harness.Run(TextRequest(Prompt(i), 0));
  harness.Settle();
  harness.Restart();
  EXPECT_THAT(harness.events(), IsEmpty());
  harness.faults().Fail(Op::kReadSegment);
  for (uint32_t i = 0; i < 3; ++i) EXPECT_TRUE(harness.Run(ReadOnly(i)).status.ok());
  EXPECT_THAT(harness.events(), ElementsAre(kOff));
}

bool IsOnAfterThePause(EngineHarness& harness) {
  harness.clock().Advance(harness.options().engine.retry_pause);
  return harness.Settle().disk_enabled;
}

TEST(EngineRetryTest, StoreThatHealedIsOnAgainAfterThePauseWithAllItHolds) {
  EngineHarness harness;
  LoseStore(harness);
  harness.faults().Fail(Op::kReadSegment, 0);
  EXPECT_FALSE(harness.Settle().disk_enabled) << "not before the pause";
  EXPECT_TRUE(IsOnAfterThePause(harness));
  EXPECT_THAT(harness.events(), ElementsAre(kOff, kOn));
  EXPECT_EQ(harness.Metric("reprise_store_enabled"), 1);
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(harness.Run(ReadOnly(i)).result.reuse.disk_tokens, 99) << i;
  }
  harness.Run(TextRequest(Prompt(9), 0));
  EXPECT_EQ(harness.Settle().durable_segments, 2) << "it is written again";
}

TEST(EngineRetryTest, StoreThatStillFailsIsOffAgainAtItsNextFailure) {
  EngineHarness harness;
  LoseStore(harness);
  EXPECT_TRUE(IsOnAfterThePause(harness)) << "it can be listed";
  EXPECT_EQ(harness.Run(ReadOnly(0)).result.reuse.reason, ReuseReason::kLoadFailed);
  EXPECT_THAT(harness.events(), ElementsAre(kOff, kOn, kOff));
  harness.faults().Fail(Op::kListSegments);
  EXPECT_FALSE(IsOnAfterThePause(harness));
  EXPECT_THAT(harness.events(), ElementsAre(kOff, kOn, kOff)) << "nothing new to tell";
  EXPECT_GE(harness.Metric("reprise_store_failures_total", "\"list\""), 1);
  harness.faults().Fail(Op::kListSegments, 0);
  EXPECT_TRUE(IsOnAfterThePause(harness));
}

TEST(EngineRetryTest, StoreThatCouldNotBeListedAtTheStartIsListedLater) {
  for (const Op operation : {Op::kListSegments, Op::kListPrompts}) {
    EngineHarness harness;
    harness.Run(TextRequest(Prompt(0), 0));
    harness.Settle();
    harness.faults().Fail(operation, 1);
    harness.Restart();
    EXPECT_THAT(harness.events(), ElementsAre(kOff));
    EXPECT_TRUE(IsOnAfterThePause(harness));
    EXPECT_THAT(harness.events(), ElementsAre(kOff, kOn));
    EXPECT_EQ(harness.Run(ReadOnly(0)).result.reuse.disk_tokens, 99);
    EXPECT_EQ(harness.Settle().prompt_count, 1);
  }
}

TEST(EngineRetryTest, VectorsThatCannotBeSavedAreTriedAgainAndLeaveTheStoreOn) {
  HarnessOptions options;
  options.engine.vector_index_path = "unused";  // the harness's index cannot be saved
  EngineHarness harness(options);
  for (size_t attempts = 1; attempts <= 4; ++attempts) {
    for (uint32_t i = 0; i < 2; ++i) {
      harness.Run(TextRequest(Prompt(2 * attempts + i), 0));
      EXPECT_TRUE(harness.Settle().disk_enabled);
    }
    EXPECT_EQ(harness.events().size(), attempts) << "one a pause";
    EXPECT_EQ(harness.events().back(), "vector_index_not_saved");
    harness.clock().Advance(harness.options().engine.retry_pause);
    if (attempts == 3) harness.Settle();
  }
  EXPECT_EQ(harness.Metric("reprise_store_failures_total"), 0);
}

}  // namespace
}  // namespace reprise
