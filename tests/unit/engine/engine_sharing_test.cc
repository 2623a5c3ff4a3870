// Requests that share a prefix while another one computes it.
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

HarnessOptions NoSimilarity() {
  HarnessOptions options;
  options.with_similarity = false;
  return options;
}

class EngineSharingTest : public testing::Test {
 protected:
  // Submits all while the first is held in its first step.
  std::vector<PendingReply> SubmitTogether(const std::vector<GenerateRequest>& requests) {
    engine_.gate().Close();
    std::vector<PendingReply> pending;
    for (const GenerateRequest& request : requests) {
      pending.push_back(engine_.Submit(request));
      if (pending.size() == 1) engine_.gate().AwaitWaiter();
    }
    return pending;
  }

  std::vector<Reply> Await(std::vector<PendingReply>& pending) {
    engine_.gate().Open();
    std::vector<Reply> replies;
    for (PendingReply& one : pending) replies.push_back(one.reply.get());
    return replies;
  }

  // What the request would say alone, in an engine of its own.
  static std::string Cold(GenerateRequest request) {
    EngineHarness alone(NoSimilarity());
    request.cache_policy = CachePolicy::kBypass;
    return alone.Run(request).result.text;
  }

  EngineHarness engine_{NoSimilarity()};
  const std::string prefix_ = Letters(1, 1000);
};

TEST_F(EngineSharingTest, SimultaneousRequestsComputeTheirPrefixOnceAndShareItsBlocks) {
  std::vector<GenerateRequest> requests;
  for (uint32_t i = 0; i < 32; ++i) {
    requests.push_back(TextRequest(prefix_ + Letters(100 + i, 30), 4));
  }
  auto pending = SubmitTogether(requests);
  const std::vector<Reply> replies = Await(pending);
  int64_t computed = 0;
  for (size_t i = 0; i < replies.size(); ++i) {
    const GenerateResult& result = replies[i].result;
    ASSERT_TRUE(replies[i].status.ok()) << replies[i].status;
    EXPECT_EQ(result.text, Cold(requests[i])) << i;
    EXPECT_EQ(result.usage.cached_tokens + result.usage.computed_tokens, 1030) << i;
    computed += result.usage.computed_tokens;
    if (i == 0) continue;
    EXPECT_GE(result.reuse.in_flight_tokens, 1000 - 256) << i;
    EXPECT_EQ(result.reuse.host_tokens, result.usage.cached_tokens) << i;
    EXPECT_EQ(result.reuse.decision, ReuseDecision::kReused) << i;
    EXPECT_EQ(result.reuse.reason, ReuseReason::kComputedInFlight) << i;
    EXPECT_GT(result.timings.shared_wait, absl::ZeroDuration()) << i;
    const Timings& t = result.timings;
    EXPECT_EQ(t.queue + t.lookup + t.shared_wait + t.load + t.prefill, t.time_to_first_token) << i;
  }
  EXPECT_LE(static_cast<double>(computed), 1.05 * (1000 + 32 * 30));
  // 63 blocks of the prefix, two or three of each suffix with its reply.
  EXPECT_LE(engine_.Settle().host_cached_block_count, 63 + 32 * 3);
}

TEST_F(EngineSharingTest, EqualPromptsComputeOneTokenEach) {
  const std::vector<GenerateRequest> requests(8, TextRequest(prefix_, 3));
  auto pending = SubmitTogether(requests);
  int64_t computed = 0;
  for (const Reply& reply : Await(pending)) {
    computed += reply.result.usage.computed_tokens;
    EXPECT_EQ(reply.result.text, Cold(requests[0]));
  }
  EXPECT_EQ(computed, 1000 + 7);
}

TEST_F(EngineSharingTest, AWaiterTakesOverFromOneThatIsCancelled) {
  const std::vector<GenerateRequest> requests(4, TextRequest(prefix_, 2));
  auto pending = SubmitTogether(requests);
  engine_.gate().LetOnePass();
  engine_.gate().AwaitWaiter();  // in its second step, with the others waiting
  engine_.engine().Cancel(pending[0].id);
  const std::vector<Reply> replies = Await(pending);
  EXPECT_EQ(replies[0].status.code(), absl::StatusCode::kCancelled);
  int64_t computed = 0;
  for (const Reply& reply : replies) {
    computed += reply.result.usage.computed_tokens;
    if (!reply.status.ok()) continue;
    EXPECT_EQ(reply.result.text, Cold(requests[1]));
  }
  EXPECT_EQ(computed, 1000 + 2) << "what the first had computed is not lost";
}

TEST_F(EngineSharingTest, AWaiterTakesOverFromOneThatFails) {
  std::atomic<int> steps{0};
  HarnessOptions options = NoSimilarity();
  options.fail_step = [&steps]() {
    return ++steps == 7 ? absl::ResourceExhaustedError("memory") : absl::OkStatus();
  };
  EngineHarness engine(options);  // five steps calibrate; the second one of a prompt fails
  engine.gate().Close();
  auto first = engine.Submit(TextRequest(prefix_, 2));
  engine.gate().AwaitWaiter();
  auto second = engine.Submit(TextRequest(prefix_, 2));
  auto third = engine.Submit(TextRequest(prefix_, 2));
  engine.gate().Open();
  EXPECT_EQ(first.reply.get().status.code(), absl::StatusCode::kResourceExhausted);
  const Reply taken = second.reply.get(), shared = third.reply.get();
  ASSERT_TRUE(taken.status.ok() && shared.status.ok());
  EXPECT_EQ(taken.result.text, Cold(TextRequest(prefix_, 2)));
  EXPECT_EQ(shared.result.text, taken.result.text);
  EXPECT_EQ(shared.result.usage.computed_tokens, 1);
}

TEST_F(EngineSharingTest, DeadlineAndCancelEndAWait) {
  GenerateRequest late = TextRequest(prefix_, 2);
  late.deadline = engine_.clock().Monotonic() + absl::Milliseconds(300);
  auto pending = SubmitTogether({TextRequest(prefix_, 2), late, TextRequest(prefix_, 2)});
  engine_.gate().LetOnePass();  // 256 rows of a millisecond
  engine_.gate().AwaitWaiter();
  engine_.gate().LetOnePass();
  engine_.gate().AwaitWaiter();
  EXPECT_EQ(pending[1].reply.get().status.code(), absl::StatusCode::kDeadlineExceeded);
  engine_.engine().Cancel(pending[2].id);
  engine_.gate().LetOnePass();
  engine_.gate().AwaitWaiter();
  const Reply cancelled = pending[2].reply.get();
  EXPECT_EQ(cancelled.status.code(), absl::StatusCode::kCancelled);
  EXPECT_GT(cancelled.result.timings.shared_wait, absl::ZeroDuration());
  EXPECT_EQ(cancelled.result.usage.cached_tokens, 0);
  engine_.gate().Open();
  EXPECT_TRUE(pending[0].reply.get().status.ok());
}

TEST_F(EngineSharingTest, OneThatSharesPartIsSharedFromInTurn) {
  const std::string middle = Letters(2, 200), a = prefix_ + Letters(3, 50);
  const std::string b = prefix_ + middle + Letters(4, 20), c = prefix_ + middle + Letters(5, 20);
  auto pending = SubmitTogether({TextRequest(a, 2), TextRequest(b, 2), TextRequest(c, 2)});
  const std::vector<Reply> replies = Await(pending);
  EXPECT_EQ(replies[0].result.usage.computed_tokens, 1050);
  EXPECT_LE(replies[1].result.usage.computed_tokens, 220);
  EXPECT_LE(replies[2].result.usage.computed_tokens, 20);
  EXPECT_EQ(replies[2].result.text, Cold(TextRequest(c, 2)));
}

TEST_F(EngineSharingTest, OneThatKeepsNothingIsNotWaitedFor) {
  auto pending = SubmitTogether({TextRequest(prefix_, 2, CachePolicy::kReadOnly),
                                 TextRequest(prefix_, 2), TextRequest(prefix_, 2)});
  const std::vector<Reply> replies = Await(pending);
  EXPECT_EQ(replies[1].result.usage.computed_tokens, 1000);
  EXPECT_EQ(replies[2].result.usage.computed_tokens, 1);
}

TEST_F(EngineSharingTest, ALoadIsSharedAsAPrefillIs) {
  engine_.Run(TextRequest(prefix_, 2));
  engine_.Settle();
  engine_.Restart();
  engine_.faults().gate(StoreOperation::kReadSegment).Close();
  std::vector<PendingReply> pending;
  for (int i = 0; i < 4; ++i) {
    pending.push_back(engine_.Submit(TextRequest(prefix_, 2, CachePolicy::kForce)));
  }
  engine_.faults().gate(StoreOperation::kReadSegment).AwaitWaiter();
  engine_.engine().GetCacheStats();  // all are looked up
  engine_.faults().gate(StoreOperation::kReadSegment).Open();
  const std::vector<Reply> replies = Await(pending);
  int64_t read = 0;
  for (const Reply& reply : replies) {
    read += reply.result.reuse.disk_bytes_read;
    EXPECT_EQ(reply.result.usage.computed_tokens, 1);
  }
  EXPECT_EQ(read, engine_.Metric("reprise_store_read_bytes_total"));
  EXPECT_EQ(read, replies[0].result.reuse.disk_bytes_read) << "read once";
  EXPECT_EQ(replies[3].result.reuse.disk_tokens, 0);
  EXPECT_EQ(replies[3].result.reuse.in_flight_tokens, 999);
}

// Random prompts of few beginnings, cancels and deadlines, in a pool so small that they
// preempt each other: everybody ends, and who ends well says what is said alone.
TEST_F(EngineSharingTest, EverybodyEndsWhateverHappensToThoseTheyWaitFor) {
  HarnessOptions options = NoSimilarity();
  options.num_blocks = 40;
  options.engine.max_running_sequences = 8;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    EngineHarness engine(options);
    std::mt19937 random(seed);
    std::vector<GenerateRequest> requests;
    std::vector<PendingReply> pending;
    for (int i = 0; i < 24; ++i) {
      const std::string text = Letters(random() % 2, 100 + static_cast<int>(random() % 100));
      requests.push_back(TextRequest(text + Letters(i, static_cast<int>(random() % 30)), 8));
      if (random() % 6 == 0) {
        requests.back().deadline = engine.clock().Monotonic() + absl::Milliseconds(random() % 500);
      }
      pending.push_back(engine.Submit(requests.back()));
      if (random() % 6 == 0) engine.engine().Cancel(pending[random() % pending.size()].id);
    }
    for (size_t i = 0; i < pending.size(); ++i) {
      const Reply reply = pending[i].reply.get();
      if (!reply.status.ok()) continue;
      EXPECT_EQ(reply.result.text, Cold(requests[i])) << seed << " " << i;
    }
    EXPECT_EQ(engine.Settle().host_available_block_count, 40) << seed;
  }
}

}  // namespace
}  // namespace reprise
