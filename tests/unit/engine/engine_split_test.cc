// Prefixes that are computed from the front while they are loaded from the back.
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

constexpr int kTail = 39;  // of the prompt's last segment, its last token not counted

class EngineSplitTest : public testing::Test {
 protected:
  EngineSplitTest() : engine_(Options()) {
    // A segment takes as long to load as to compute.
    engine_.faults().on_read = [this] { engine_.clock().Advance(absl::Milliseconds(64)); };
    engine_.Run(TextRequest(prompt_, 4));
    engine_.Run(TextRequest(other_, 4));
    engine_.Settle();
    // Forced loads of what is not in memory teach the model how slow they are.
    for (int i = 0; i < 8; ++i) {
      engine_.Run(TextRequest(i % 2 == 0 ? prompt_ : other_, 0, CachePolicy::kForce));
      engine_.Settle();
    }
  }

  static HarnessOptions Options() {
    HarnessOptions options;
    options.num_blocks = 70;  // one of the prompts
    options.with_similarity = false;
    return options;
  }

  Gate& read_gate() { return engine_.faults().gate(StoreOperation::kReadSegment); }

  // Until so many rows are computed in all.
  void AwaitRows(int rows) {
    while (engine_.rows() < rows) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  // What is computed when all but memory's part, the prompt's tail and `reads` segments is.
  int LeftToCompute(int reads) {
    ExplainRequest request;
    request.prompt = TextRequest(prompt_, 4).prompt;
    return 999 - engine_.engine().Explain(request)->host_tokens - kTail - reads * kSegmentTokens;
  }

  // Submits the prompt with the first `reads` of its loads let through; returns when all that
  // the others leave is computed.
  PendingReply SubmitHeld(int reads) {
    const int rows = engine_.rows() + LeftToCompute(reads);
    engine_.gate().Close();  // the reader is first
    read_gate().Close();
    for (int i = 0; i < reads; ++i) read_gate().LetOnePass();
    auto pending = engine_.Submit(TextRequest(prompt_, 4));
    read_gate().AwaitWaiter();
    engine_.gate().Open();
    AwaitRows(rows);
    return pending;
  }

  void ExpectCold(const Reply& reply) {
    ASSERT_TRUE(reply.status.ok()) << reply.status;
    const Reply cold = engine_.Run(TextRequest(prompt_, 4, CachePolicy::kBypass));
    EXPECT_EQ(reply.result.text, cold.result.text);
    const Usage& usage = reply.result.usage;
    EXPECT_EQ(usage.cached_tokens + usage.computed_tokens, usage.prompt_tokens);
  }

  EngineHarness engine_;
  const std::string prompt_ = Letters(1, 1000), other_ = Letters(2, 1000);
};

TEST_F(EngineSplitTest, WhatIsLoadedAndWhatIsComputedMeet) {
  auto pending = SubmitHeld(3);
  read_gate().Open();
  const Reply reply = pending.reply.get();
  ExpectCold(reply);
  const Reuse& reuse = reply.result.reuse;
  EXPECT_EQ(reuse.decision, ReuseDecision::kPartial);
  EXPECT_EQ(reuse.reason, ReuseReason::kFasterToSplit);
  // Loaded: the tail of 40 tokens, all but one of them used, and three segments.
  EXPECT_EQ(reuse.disk_tokens, kTail + 3 * kSegmentTokens);
  EXPECT_GT(reuse.split_tokens, 9 * kSegmentTokens);
  EXPECT_EQ(reuse.host_tokens + reuse.split_tokens + reuse.disk_tokens, 999);
  EXPECT_EQ(reply.result.usage.computed_tokens, reuse.split_tokens + 1);
  EXPECT_GT(reply.result.timings.load, absl::ZeroDuration()) << "the last load was waited for";
  EXPECT_LT(reuse.predicted_total, reuse.predicted_load + reuse.predicted_prefill);
  const Timings& t = reply.result.timings;
  EXPECT_EQ(t.queue + t.lookup + t.load + t.prefill, t.time_to_first_token);
}

class EngineSplitReadsTest : public EngineSplitTest, public testing::WithParamInterface<int> {};

TEST_P(EngineSplitReadsTest, WhateverTheReaderLoadsInTimeTheReplyIsTheColdOne) {
  auto pending = SubmitHeld(GetParam());
  read_gate().Open();
  const Reply reply = pending.reply.get();
  ExpectCold(reply);
  EXPECT_EQ(reply.result.reuse.disk_tokens, kTail + GetParam() * kSegmentTokens);
}

INSTANTIATE_TEST_SUITE_P(Reads, EngineSplitReadsTest, testing::Range(0, 10));

TEST_F(EngineSplitTest, AFailedLoadIsComputedAndWhatCameBeforeItStillCounts) {
  auto pending = SubmitHeld(3);
  engine_.faults().Fail(StoreOperation::kReadSegment, 1);
  read_gate().Open();
  const Reply reply = pending.reply.get();
  ExpectCold(reply);
  EXPECT_EQ(reply.result.reuse.disk_tokens, kTail + 2 * kSegmentTokens);
  EXPECT_EQ(reply.result.reuse.reason, ReuseReason::kFasterToSplit);
}

TEST_F(EngineSplitTest, WithNoLoadAtAllThePromptIsComputed) {
  auto pending = SubmitHeld(0);
  engine_.faults().Fail(StoreOperation::kReadSegment);
  read_gate().Open();
  const Reply reply = pending.reply.get();
  ExpectCold(reply);
  EXPECT_EQ(reply.result.reuse.disk_tokens, 0);
  EXPECT_GT(reply.result.reuse.host_tokens, 0);
  EXPECT_EQ(reply.result.reuse.decision, ReuseDecision::kPartial);
  EXPECT_EQ(reply.result.reuse.reason, ReuseReason::kLoadFailed);
}

TEST_F(EngineSplitTest, CancelWhileItWaitsForTheLastLoadLeavesThePoolWhole) {
  auto pending = SubmitHeld(2);
  engine_.engine().Cancel(pending.id);
  const Reply reply = pending.reply.get();
  EXPECT_EQ(reply.status.code(), absl::StatusCode::kCancelled);
  const double read = engine_.Metric("reprise_store_read_bytes_total");
  EXPECT_GT(reply.result.reuse.disk_bytes_read, 0);
  read_gate().Open();
  EXPECT_EQ(engine_.Settle().host_available_block_count, 70);
  EXPECT_EQ(engine_.Metric("reprise_store_read_bytes_total"), read) << "after the account: nothing";
}

TEST_F(EngineSplitTest, WhoWaitsForASplitPrefixSharesIt) {
  auto first = SubmitHeld(2);
  auto second = engine_.Submit(TextRequest(prompt_, 4));
  read_gate().Open();
  ExpectCold(first.reply.get());
  const Reply shared = second.reply.get();
  ExpectCold(shared);
  EXPECT_EQ(shared.result.usage.computed_tokens, 1);
}

}  // namespace
}  // namespace reprise
