// How requests are refused, end early, give way to each other and are drained.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "tests/fakes/letter_eos.h"
#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

constexpr CachePolicy kBypass = CachePolicy::kBypass;

void ExpectNothingHeld(EngineHarness& harness) {
  const CacheStats stats = harness.Settle();
  EXPECT_EQ(stats.running_sequences + stats.queued_requests, 0);
  EXPECT_EQ(stats.host_free_block_count + stats.host_cached_block_count, stats.host_block_count);
}

// A request whose step stands at the closed gate.
PendingReply Hold(EngineHarness& harness, const GenerateRequest& request) {
  harness.gate().Close();
  PendingReply pending = harness.Submit(request);
  harness.gate().AwaitWaiter();
  return pending;
}

TEST(EngineLifecycleTest, BadRequestsAreRefusedByName) {
  HarnessOptions options;
  options.context_length = 100;
  options.num_blocks = 5;
  EngineHarness harness(options);
  GenerateRequest negative = TextRequest("a", 1), high = negative;
  negative.prompt[0] = -1;
  high.prompt[0] = 257;
  struct Case {
    GenerateRequest request;
    absl::StatusCode code;
    const char* message;
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const std::vector<Case> cases = {
      {TextRequest("", 1), invalid, "prompt: empty"},
      {TextRequest("a", -1), invalid, "max_output_tokens: -1"},
      {TextRequest(Letters(1, 90), 11), invalid, "prompt: 90 tokens + max_output_tokens 11"},
      {negative, invalid, "token id -1"},
      {high, invalid, "token id 257"},
      {TextRequest(Letters(1, 60), 5), absl::StatusCode::kResourceExhausted, "6 KV blocks"},
  };
  for (const Case& c : cases) {
    const absl::Status status = harness.Refusal(c.request);
    EXPECT_EQ(status.code(), c.code) << c.message;
    EXPECT_TRUE(absl::StrContains(status.message(), c.message)) << status;
  }
  EXPECT_TRUE(harness.Run(TextRequest(Letters(1, 60), 4)).status.ok()) << "the largest that fits";
}

TEST(EngineLifecycleTest, FullQueueRefusesAndRecovers) {
  HarnessOptions options;
  options.engine.max_queued_requests = 2;
  EngineHarness harness(options);
  std::vector<PendingReply> pending;
  pending.push_back(Hold(harness, TextRequest("running", 5)));
  for (int i = 0; i < 2; ++i) pending.push_back(harness.Submit(TextRequest("waiting", 5)));
  const absl::Status status = harness.Refusal(TextRequest("one too many", 5));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(status.message(), "2 requests are waiting")) << status;
  harness.gate().Open();
  for (PendingReply& one : pending) EXPECT_TRUE(one.reply.get().status.ok());
  EXPECT_TRUE(harness.Run(TextRequest("again", 5)).status.ok());
}

TEST(EngineLifecycleTest, RunningSequencesAreLimited) {
  HarnessOptions options;
  options.engine.max_running_sequences = 2;
  EngineHarness harness(options);
  std::vector<PendingReply> pending;
  pending.push_back(Hold(harness, TextRequest("first", 100)));
  for (int i = 0; i < 4; ++i) pending.push_back(harness.Submit(TextRequest("next", 100)));
  harness.gate().LetOnePass();
  harness.gate().AwaitWaiter();
  EXPECT_EQ(harness.Metric("reprise_running_sequences"), 1) << "as of the first step";
  harness.gate().LetOnePass();
  harness.gate().AwaitWaiter();
  EXPECT_EQ(harness.Metric("reprise_running_sequences"), 2);
  EXPECT_EQ(harness.Metric("reprise_queued_requests"), 3);
  harness.gate().Open();
  for (PendingReply& one : pending) EXPECT_TRUE(one.reply.get().status.ok());
}

TEST(EngineLifecycleTest, CancellationEndsWithinTheStep) {
  EngineHarness harness;
  PendingReply pending = Hold(harness, TextRequest(Letters(1, 50), 100, kBypass));
  harness.engine().Cancel(pending.id);
  harness.gate().LetOnePass();
  const Reply reply = pending.reply.get();
  EXPECT_EQ(reply.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(reply.result.usage.prompt_tokens, 50);
  EXPECT_EQ(harness.steps(), 1);
  harness.gate().Open();
  const CacheStats stats = harness.Settle();
  EXPECT_EQ(stats.host_free_block_count, stats.host_block_count);
  harness.engine().Cancel(pending.id);
  harness.engine().Cancel(12345);
  EXPECT_TRUE(harness.Run(TextRequest("after", 3)).status.ok());
}

TEST(EngineLifecycleTest, PassedDeadlineEndsWithinTheStep) {
  EngineHarness harness;
  GenerateRequest request = TextRequest(Letters(1, 50), 100, kBypass);
  request.deadline = harness.clock().Monotonic() + absl::Seconds(10);
  PendingReply pending = Hold(harness, request);
  PendingReply waiting = harness.Submit(request);
  harness.clock().Advance(absl::Seconds(10));
  harness.gate().LetOnePass();
  EXPECT_EQ(pending.reply.get().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(waiting.reply.get().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(harness.steps(), 1);
  harness.gate().Open();
  const CacheStats stats = harness.Settle();
  EXPECT_EQ(stats.host_free_block_count, stats.host_block_count);
}

TEST(EngineLifecycleTest, DeadlineInTimeIsNoHindrance) {
  EngineHarness harness;
  GenerateRequest request = TextRequest("hello", 10);
  request.deadline = harness.clock().Monotonic() + absl::Seconds(10);
  EXPECT_TRUE(harness.Run(request).status.ok());
}

TEST(EngineLifecycleTest, PreemptionChangesNoReply) {
  HarnessOptions options;
  options.num_blocks = 8;
  for (const CachePolicy policy : {CachePolicy::kUse, kBypass}) {
    EngineHarness harness(options);
    std::vector<PendingReply> pending;
    for (int i = 0; i < 6; ++i) {
      pending.push_back(harness.Submit(TextRequest(Letters(i, 20), 80, policy)));
    }
    std::vector<Reply> replies;
    for (PendingReply& one : pending) replies.push_back(one.reply.get());
    const char* kind = policy == kBypass ? "recompute" : "cache";
    EXPECT_GT(harness.Metric("reprise_preemptions_total", kind), 0);
    for (int i = 0; i < 6; ++i) {
      EXPECT_TRUE(replies[i].status.ok());
      EXPECT_EQ(replies[i].result.output_ids,
                harness.Run(TextRequest(Letters(i, 20), 80, kBypass)).result.output_ids);
      EXPECT_EQ(replies[i].streamed_ids, replies[i].result.output_ids);
      EXPECT_EQ(replies[i].result.usage.computed_tokens, 20);
    }
    ExpectNothingHeld(harness);
  }
}

// Both compute the common beginning, since waiting for it would save less than a pass takes;
// once the first has ended, its copy must not stay in the way of the second.
TEST(EngineLifecycleTest, PrefixComputedTwiceIsHeldOnce) {
  HarnessOptions options;
  options.num_blocks = 9;
  options.with_store = false;
  EngineHarness harness(options);
  PendingReply held = Hold(harness, TextRequest("#", 1, kBypass));
  const std::string common = Letters(1, 16);
  PendingReply first = harness.Submit(TextRequest(common + Letters(2, 2), 1));
  PendingReply second = harness.Submit(TextRequest(common + Letters(3, 2), 110));
  harness.gate().Open();
  EXPECT_TRUE(held.reply.get().status.ok());
  EXPECT_EQ(first.reply.get().result.usage.computed_tokens, 18);
  const Reply reply = second.reply.get();
  EXPECT_EQ(reply.result.usage.computed_tokens, 18);
  EXPECT_EQ(reply.result.usage.output_tokens, 110);
  ExpectNothingHeld(harness);
}

TEST(EngineLifecycleTest, FailedStepEndsItsSequencesAndKeepsNothing) {
  std::atomic<bool> fails{false};
  HarnessOptions options;
  options.fail_step = [&] { return fails ? absl::InternalError("fault") : absl::OkStatus(); };
  EngineHarness harness(options);
  // The first 256 rows are computed, the rest fails.
  PendingReply pending = Hold(harness, TextRequest(Letters(1, 300), 5));
  PendingReply mate = harness.Submit(TextRequest("mate", 5));
  harness.gate().LetOnePass();
  harness.gate().AwaitWaiter();
  fails = true;
  harness.gate().LetOnePass();
  EXPECT_EQ(pending.reply.get().status, absl::InternalError("fault"));
  EXPECT_EQ(mate.reply.get().status, absl::InternalError("fault"));
  fails = false;
  harness.gate().Open();
  const CacheStats stats = harness.Settle();
  EXPECT_EQ(stats.host_free_block_count, stats.host_block_count);
  EXPECT_EQ(stats.disk.segment_count, 0);
  EXPECT_EQ(stats.prompt_count, 0);
}

TEST(EngineLifecycleTest, FailedDecodeLeavesOnlySoundKv) {
  std::atomic<bool> fails{false};
  HarnessOptions options;
  options.fail_step = [&] { return fails ? absl::InternalError("fault") : absl::OkStatus(); };
  EngineHarness harness(options);
  PendingReply pending = Hold(harness, TextRequest(Letters(1, 47), 40));
  harness.gate().LetOnePass();
  harness.gate().AwaitWaiter();
  fails = true;
  harness.gate().LetOnePass();
  EXPECT_EQ(pending.reply.get().status, absl::InternalError("fault"));
  fails = false;
  harness.gate().Open();
  ExpectNothingHeld(harness);
  const Reply warm = harness.Run(TextRequest(Letters(1, 47), 40));
  EXPECT_EQ(warm.result.output_ids,
            harness.Run(TextRequest(Letters(1, 47), 40, kBypass)).result.output_ids);
}

// Until the engine refuses what it would otherwise take.
void AwaitDraining(EngineHarness& harness) {
  while (!harness.IsDraining()) std::this_thread::yield();
}

TEST(EngineLifecycleTest, DrainFinishesWhatRunsAndMakesAllDurable) {
  HarnessOptions options;
  options.engine.flush_after_idle = absl::Hours(1);
  EngineHarness harness(options);
  PendingReply pending = Hold(harness, TextRequest(Letters(1, 150), 30));
  PendingReply queued = harness.Submit(TextRequest(Letters(2, 20), 30));
  std::thread drain([&] { harness.engine().Drain(absl::Hours(1)); });
  AwaitDraining(harness);
  harness.gate().Open();
  EXPECT_TRUE(pending.reply.get().status.ok());
  EXPECT_TRUE(queued.reply.get().status.ok());
  drain.join();
  EXPECT_EQ(harness.store().Stats().segment_count, 4);
  harness.Restart();
  EXPECT_EQ(harness.Run(TextRequest(Letters(1, 150), 1)).result.usage.cached_tokens, 149);
}

TEST(EngineLifecycleTest, DrainOutOfTimeEndsWhatRuns) {
  EngineHarness harness;
  PendingReply pending = Hold(harness, TextRequest("hello", 500));
  PendingReply queued = harness.Submit(TextRequest("hello", 500));
  std::thread drain([&] { harness.engine().Drain(absl::ZeroDuration()); });
  AwaitDraining(harness);
  harness.gate().Open();
  EXPECT_TRUE(absl::IsUnavailable(pending.reply.get().status));
  EXPECT_TRUE(absl::IsUnavailable(queued.reply.get().status));
  drain.join();
}

TEST(EngineLifecycleTest, RepliesEndWhereTheRequestSays) {
  EngineHarness harness;
  const std::string text = harness.Run(TextRequest("hello", 40)).result.text;
  ASSERT_EQ(text.size(), 40u);
  const std::string stop = text.substr(20, 3);
  GenerateRequest request = TextRequest("hello", 40);
  request.stop_sequences = {"#", stop};
  const Reply at_sequence = harness.Run(request);
  EXPECT_EQ(at_sequence.result.finish_reason, FinishReason::kStopSequence);
  EXPECT_EQ(at_sequence.result.matched_stop, stop);
  EXPECT_EQ(at_sequence.result.text, text.substr(0, text.find(stop)));
  EXPECT_EQ(at_sequence.streamed, at_sequence.result.text);

  request = TextRequest("hello", 40);
  request.stop_ids = {text[20]};
  const Reply at_id = harness.Run(request);
  EXPECT_EQ(at_id.result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(at_id.result.text, text.substr(0, text.find(text[20])));

  const Reply whole = harness.Run(TextRequest("hello", 40));
  EXPECT_EQ(whole.result.finish_reason, FinishReason::kMaxTokens);
  EXPECT_EQ(whole.result.text, text);
  EXPECT_EQ(harness.Run(TextRequest("hello", 0)).result.finish_reason, FinishReason::kMaxTokens);

  request = TextRequest("hello", 40);
  request.ends_at_context = true;
  EXPECT_EQ(harness.Run(request).result.finish_reason, FinishReason::kContextLength);
}

TEST(EngineLifecycleTest, EosEndsAReplyUnlessIgnored) {
  EngineHarness plain;
  const std::string text = plain.Run(TextRequest("hello", 40)).result.text;
  const LetterEos tokenizer(text[10]);
  HarnessOptions options;
  options.tokenizer = &tokenizer;
  EngineHarness harness(options);
  GenerateRequest request = TextRequest("hello", 40);
  const Reply ended = harness.Run(request);
  EXPECT_EQ(ended.result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(ended.result.text, text.substr(0, text.find(text[10])));
  request.ignore_eos = true;
  const Reply whole = harness.Run(request);
  EXPECT_EQ(whole.result.finish_reason, FinishReason::kMaxTokens);
  EXPECT_EQ(whole.result.usage.output_tokens, 40);
  EXPECT_EQ(whole.result.text.find(text[10]), std::string::npos);
}

TEST(EngineLifecycleTest, ModelRowsEqualTheSumOfTheReplies) {
  EngineHarness harness;
  int64_t computed = 0, decoded = 0;
  for (int i = 0; i < 40; ++i) {
    const auto policy = static_cast<CachePolicy>(i % 4);
    const Reply reply = harness.Run(TextRequest(Letters(i % 3, 10 + 13 * (i % 7)), i % 5, policy));
    const Usage& usage = reply.result.usage;
    const Reuse& reuse = reply.result.reuse;
    EXPECT_EQ(usage.cached_tokens + usage.computed_tokens, usage.prompt_tokens);
    EXPECT_EQ(reuse.device_tokens + reuse.host_tokens + reuse.disk_tokens, usage.cached_tokens);
    EXPECT_LE(usage.cached_tokens, reuse.ideal_tokens);
    computed += usage.computed_tokens;
    decoded += std::max(usage.output_tokens - 1, 0);
  }
  harness.Settle();
  EXPECT_EQ(harness.Metric("reprise_step_prefill_tokens_total"), computed);
  EXPECT_EQ(harness.Metric("reprise_step_decode_tokens_total"), decoded);
  EXPECT_EQ(harness.Metric("reprise_embeddings_total"), harness.embeddings());
}

}  // namespace
}  // namespace reprise
