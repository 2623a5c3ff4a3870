// The accounts of requests that end early: what was computed, read and waited for
// until then, and no more.
#include <gtest/gtest.h>

#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

constexpr CachePolicy kBypass = CachePolicy::kBypass;

// A request whose step stands at the closed gate.
PendingReply Hold(EngineHarness& harness, const GenerateRequest& request) {
  harness.gate().Close();
  PendingReply pending = harness.Submit(request);
  harness.gate().AwaitWaiter();
  return pending;
}

TEST(EngineAccountTest, RequestThatEndsInTheQueueWaitedAndComputedNothing) {
  for (const bool late : {true, false}) {
    EngineHarness harness;
    PendingReply running = Hold(harness, TextRequest("running", 3, kBypass));
    GenerateRequest request = TextRequest(Letters(1, 500), 5);
    if (late) request.deadline = harness.clock().Monotonic() + absl::Seconds(9);
    PendingReply waiting = harness.Submit(request);
    harness.clock().Advance(absl::Seconds(9));
    if (!late) harness.engine().Cancel(waiting.id);
    harness.gate().Open();
    const Reply reply = waiting.reply.get();
    EXPECT_EQ(reply.status.code(),
              late ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kCancelled);
    EXPECT_EQ(reply.result.usage.prompt_tokens, 500);
    EXPECT_EQ(reply.result.usage.computed_tokens + reply.result.usage.cached_tokens, 0);
    EXPECT_FALSE(reply.result.reuse.decided);
    EXPECT_GE(reply.result.timings.queue, absl::Seconds(9));
    EXPECT_EQ(reply.result.timings.lookup + reply.result.timings.prefill, absl::ZeroDuration());
    EXPECT_TRUE(running.reply.get().result.reuse.decided);
  }
}

TEST(EngineAccountTest, RequestThatEndsInItsEmbeddingWasLookingUp) {
  Gate embedding;
  EngineHarness harness(EmbeddingBehind(embedding));
  embedding.Close();
  GenerateRequest request = TextRequest("hello", 5);
  request.retrieval_mode = RetrievalMode::kSemantic;
  PendingReply pending = harness.Submit(request);
  embedding.AwaitWaiter();
  harness.clock().Advance(absl::Seconds(2));
  harness.engine().Cancel(pending.id);
  const Reply reply = pending.reply.get();
  embedding.Open();
  EXPECT_EQ(reply.result.timings.lookup, absl::Seconds(2));
  EXPECT_EQ(reply.result.usage.computed_tokens, 0);
  EXPECT_FALSE(reply.result.reuse.decided);
}

TEST(EngineAccountTest, RequestThatEndsInItsLoadHasReadWhatIsCounted) {
  EngineHarness harness;
  const std::string prompt = Letters(1, 250);
  harness.Run(TextRequest(prompt, 0));
  harness.Settle();
  harness.Restart();
  Gate& reads = harness.faults().gate(StoreOperation::kReadSegment);
  reads.Close();
  PendingReply pending = harness.Submit(TextRequest(prompt, 5, CachePolicy::kForce));
  reads.LetOnePass();
  reads.AwaitWaiter();  // at the second segment
  harness.clock().Advance(absl::Seconds(3));
  harness.engine().Cancel(pending.id);
  const Reply reply = pending.reply.get();
  reads.Open();
  harness.Stop();  // the load has ended
  const Reuse& reuse = reply.result.reuse;
  EXPECT_TRUE(absl::IsCancelled(reply.status));
  EXPECT_TRUE(reuse.decided);
  EXPECT_EQ(reply.result.timings.load, absl::Seconds(3));
  EXPECT_EQ(reuse.host_tokens + reuse.disk_tokens + reply.result.usage.cached_tokens, 0);
  EXPECT_EQ(reply.result.usage.computed_tokens, 0);
  EXPECT_GT(reuse.disk_bytes_read, 0);
  EXPECT_EQ(harness.Metric("reprise_store_read_bytes_total"), reuse.disk_bytes_read);
}

// Ends a prompt of 300 tokens, over a cached beginning of 20, after its first step of 256 rows.
Reply EndInPrefill(EngineHarness& harness, const std::function<void(PendingReply&)>& end) {
  PendingReply pending = Hold(harness, TextRequest(Letters(1, 20) + Letters(2, 280), 5));
  harness.gate().LetOnePass();
  harness.gate().AwaitWaiter();
  end(pending);
  harness.gate().Open();
  return pending.reply.get();
}

TEST(EngineAccountTest, ModelRowsEqualTheSumOfRepliesThatEndedInAnyWay) {
  std::atomic<bool> fails{false};
  HarnessOptions options;
  options.with_store = false;
  options.fail_step = [&] { return fails ? absl::InternalError("fault") : absl::OkStatus(); };
  const std::vector<std::pair<absl::StatusCode, int32_t>> ends = {
      {absl::StatusCode::kCancelled, 280},  // the step at the gate is still computed
      {absl::StatusCode::kInternal, 256},   // and does not count when it fails
      {absl::StatusCode::kOk, 280}};
  for (const auto& [code, computed] : ends) {
    EngineHarness harness(options);
    harness.Run(TextRequest(Letters(1, 20), 0));
    const Reply reply = EndInPrefill(harness, [&, code = code](const PendingReply& pending) {
      if (code == absl::StatusCode::kCancelled) harness.engine().Cancel(pending.id);
      fails = code == absl::StatusCode::kInternal;
    });
    fails = false;
    EXPECT_EQ(reply.status.code(), code);
    EXPECT_EQ(reply.result.usage.cached_tokens, 20);
    EXPECT_EQ(reply.result.usage.computed_tokens, computed) << code;
    harness.Settle();
    EXPECT_EQ(harness.Metric("reprise_step_prefill_tokens_total"), 20 + computed);
  }
}

TEST(EngineAccountTest, EntryAgeIsThatOfTheDeepestReusedTokens) {
  HarnessOptions options;
  options.token_time = absl::ZeroDuration();
  EngineHarness harness(options);
  const auto age = [&](const std::string& prompt) {
    const GenerateRequest request = TextRequest(prompt, 0, CachePolicy::kReadOnly);
    return harness.Run(request).result.reuse.entry_age;
  };
  const std::string old = Letters(1, 64), recent = old + Letters(2, 64);
  harness.Run(TextRequest(old, 0));
  harness.clock().Advance(absl::Seconds(5));
  harness.Run(TextRequest(recent, 0));
  harness.clock().Advance(absl::Seconds(2));
  EXPECT_EQ(age("#"), absl::ZeroDuration()) << "nothing is reused";
  EXPECT_EQ(age(recent + "#"), absl::Seconds(2));
  EXPECT_EQ(age(recent.substr(0, 70) + "#"), absl::Seconds(2)) << "a block used in part";
  EXPECT_EQ(age(old + "#"), absl::Seconds(7));
}

TEST(EngineAccountTest, EntryAgeCountsFromBeforeARestartAlsoWhenALoadEndsEarly) {
  for (const bool fails : {false, true}) {
    EngineHarness harness;
    const std::string prompt = Letters(1, 128);
    const absl::Duration start = harness.clock().Monotonic();
    harness.Run(TextRequest(prompt.substr(0, 64), 0));
    harness.Settle();
    harness.clock().Advance(absl::Hours(5));
    harness.Run(TextRequest(prompt, 0));
    harness.Settle();
    harness.clock().Advance(absl::Hours(2));
    harness.Restart();
    Gate& reads = harness.faults().gate(StoreOperation::kReadSegment);
    reads.Close();
    PendingReply pending = harness.Submit(TextRequest(prompt + "#", 0, CachePolicy::kForce));
    reads.LetOnePass();
    reads.AwaitWaiter();  // at the second segment
    if (fails) harness.faults().Fail(StoreOperation::kReadSegment, 1);
    reads.Open();
    const Reuse reuse = pending.reply.get().result.reuse;
    const absl::Duration elapsed = harness.clock().Monotonic() - start;
    EXPECT_EQ(reuse.disk_tokens, fails ? 64 : 128);
    EXPECT_LE(reuse.entry_age, elapsed);
    EXPECT_EQ(absl::Floor(reuse.entry_age, absl::Hours(1)), absl::Hours(fails ? 7 : 2));
  }
}

// The older two compute at the pace of one row a step each; the third, the youngest, has to
// give way to them.
TEST(EngineAccountTest, WhatAPreemptedOneFindsWhenItResumesIsWhatCounts) {
  struct Case {
    const char* name;
    int num_blocks, max_batch_tokens;
    GenerateRequest stream, older, youngest;
    int32_t low, high;  // tokens of the youngest that are reused in the end
  };
  const std::string prompt = Letters(1, 64);
  for (const Case& c : {Case{"an older one with the same prompt was ahead of it", 12, 3,
                             TextRequest("#", 150, CachePolicy::kBypass), TextRequest(prompt, 22),
                             TextRequest(prompt, 1), 16, 48},
                        Case{"of what it found most was evicted before its first step", 16, 2,
                             TextRequest("#", 130, CachePolicy::kBypass),
                             TextRequest(Letters(2, 112), 1, CachePolicy::kBypass),
                             TextRequest(prompt.substr(0, 48) + Letters(3, 16), 1), 0, 32}}) {
    HarnessOptions options;
    options.num_blocks = c.num_blocks;
    options.engine.max_batch_tokens = c.max_batch_tokens;
    // A pass takes so long that nobody waits for another's prefix, and one row beside it.
    options.step_time = absl::Milliseconds(100);
    options.engine.max_decode_slowdown_percent = 1;
    options.with_store = options.with_similarity = false;
    EngineHarness harness(options);
    const bool warm = c.youngest.prompt != c.older.prompt;
    int64_t computed = 0;
    if (warm)
      computed += harness.Run(TextRequest(prompt.substr(0, 48), 0)).result.usage.computed_tokens;
    PendingReply stream = Hold(harness, c.stream);
    PendingReply older = harness.Submit(c.older);
    PendingReply youngest = harness.Submit(c.youngest);
    harness.gate().Open();
    const GenerateResult result = youngest.reply.get().result;
    EXPECT_EQ(harness.Metric("reprise_preemptions_total"), 1) << c.name;
    EXPECT_GE(result.usage.cached_tokens, c.low) << c.name;
    EXPECT_LE(result.usage.cached_tokens, c.high) << c.name;
    EXPECT_EQ(result.usage.cached_tokens + result.usage.computed_tokens, 64) << c.name;
    EXPECT_LE(result.usage.cached_tokens, result.reuse.ideal_tokens) << c.name;
    EXPECT_EQ(result.reuse.decision, ReuseDecision::kReused) << c.name;
    EXPECT_EQ(result.reuse.miss_reason, MissReason::kNone) << c.name;
    computed += result.usage.computed_tokens;
    computed += older.reply.get().result.usage.computed_tokens;
    computed += stream.reply.get().result.usage.computed_tokens;
    EXPECT_EQ(harness.Metric("reprise_step_prefill_tokens_total"), computed) << c.name;
  }
}

}  // namespace
}  // namespace reprise
