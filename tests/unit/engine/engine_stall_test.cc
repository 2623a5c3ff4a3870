// Loads that stall, as on a disk that does not answer: their requests compute, and the store
// is off until it answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

using Op = StoreOperation;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* kStalled = "\"load_stalled\"";

std::string Prompt(uint32_t i) { return Letters(i, 100); }

GenerateRequest ReadOnly(uint32_t i) { return TextRequest(Prompt(i), 4, CachePolicy::kReadOnly); }

// Prompts in the store alone, which stands still at the next read.
void FillAndStop(EngineHarness& harness, uint32_t prompts) {
  for (uint32_t i = 0; i < prompts; ++i) harness.Run(TextRequest(Prompt(i), 0));
  harness.Settle();
  harness.Restart();
  harness.faults().gate(Op::kReadSegment).Close();
}

void PassBudget(EngineHarness& harness) {
  harness.clock().Advance(harness.options().engine.load_budget + absl::Seconds(1));
}

void ExpectComputed(EngineHarness& harness, const Reply& reply, uint32_t i) {
  EXPECT_TRUE(reply.status.ok()) << reply.status;
  EXPECT_EQ(reply.result.usage.cached_tokens, 0);
  const auto cold = harness.Run(TextRequest(Prompt(i), 4, CachePolicy::kBypass));
  EXPECT_EQ(reply.result.output_ids, cold.result.output_ids);
}

TEST(EngineStallTest, RequestsComputeOnceALoadIsPastItsBudgetAndOthersDoNotWait) {
  EngineHarness harness;
  FillAndStop(harness, 3);
  PendingReply first = harness.Submit(ReadOnly(0)), behind = harness.Submit(ReadOnly(1));
  harness.faults().gate(Op::kReadSegment).AwaitWaiter();
  EXPECT_TRUE(harness.engine().GetCacheStats().disk_enabled) << "not before the budget is over";
  PassBudget(harness);
  const Reply given_up = first.reply.get();
  ExpectComputed(harness, given_up, 0);
  EXPECT_EQ(given_up.result.reuse.reason, ReuseReason::kLoadFailed);
  EXPECT_EQ(given_up.result.reuse.disk_bytes_read, 0);
  ExpectComputed(harness, behind.reply.get(), 1);
  ExpectComputed(harness, harness.Run(ReadOnly(2)), 2);
  EXPECT_EQ(harness.Metric("reprise_store_failures_total", kStalled), 1);
  EXPECT_EQ(harness.Metric("reprise_store_enabled"), 0);
  EXPECT_THAT(harness.events(), ElementsAre("store_switched_off"));
  harness.faults().OpenGates();
}

TEST(EngineStallTest, StoreIsOnAgainOnceItAnswersAndNotBefore) {
  EngineHarness harness;
  FillAndStop(harness, 2);
  PendingReply stalled = harness.Submit(ReadOnly(0));
  harness.faults().gate(Op::kReadSegment).AwaitWaiter();
  PassBudget(harness);
  EXPECT_TRUE(stalled.reply.get().status.ok());
  harness.clock().Advance(2 * harness.options().engine.retry_pause);
  EXPECT_FALSE(harness.Settle().disk_enabled) << "the read is still out";
  harness.faults().OpenGates();
  while (!harness.Settle().disk_enabled) {
  }
  EXPECT_THAT(harness.events(), ElementsAre("store_switched_off", "store_switched_on"));
  for (uint32_t i = 0; i < 2; ++i) {
    EXPECT_EQ(harness.Run(ReadOnly(i)).result.reuse.disk_tokens, 99) << i;
  }
}

// Nine tenths of the budget each: the last one waits for several budgets.
TEST(EngineStallTest, LoadsThatWaitForSlowOnesHaveNotStalled) {
  EngineHarness harness;
  FillAndStop(harness, 4);
  std::vector<PendingReply> replies;
  for (uint32_t i = 0; i < 4; ++i) replies.push_back(harness.Submit(ReadOnly(i)));
  Gate& gate = harness.faults().gate(Op::kReadSegment);
  for (int load = 0; load < 4; ++load) {
    gate.AwaitWaiter();
    harness.clock().Advance(harness.options().engine.load_budget * 0.9);
    gate.LetOnePass();  // a full segment
    gate.AwaitWaiter();
    gate.LetOnePass();  // and a tail
    EXPECT_EQ(replies[static_cast<size_t>(load)].reply.get().result.reuse.disk_tokens, 99);
  }
  EXPECT_THAT(harness.events(), IsEmpty());
  EXPECT_EQ(harness.Metric("reprise_store_failures_total"), 0);
  harness.faults().OpenGates();
}

TEST(EngineStallTest, CancelledLoadThatStallsHoldsUpNobodyForLong) {
  EngineHarness harness;
  FillAndStop(harness, 2);
  PendingReply cancelled = harness.Submit(ReadOnly(0));
  harness.faults().gate(Op::kReadSegment).AwaitWaiter();
  harness.engine().Cancel(cancelled.id);
  EXPECT_EQ(cancelled.reply.get().status.code(), absl::StatusCode::kCancelled);
  PendingReply behind = harness.Submit(ReadOnly(1));
  while (harness.engine().GetCacheStats().running_sequences == 0) {
  }
  PassBudget(harness);
  ExpectComputed(harness, behind.reply.get(), 1);
  harness.faults().OpenGates();
}

}  // namespace
}  // namespace reprise
