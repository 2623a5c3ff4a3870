// The nearest cached prompt in HYBRID replies: there when no embedding is needed for
// it, and each prompt embedded once, while nothing runs.
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

GenerateRequest InMode(GenerateRequest request, RetrievalMode mode) {
  request.retrieval_mode = mode;
  return request;
}

// A request whose step stands at the closed gate, so that what is submitted
// meanwhile is taken up together.
PendingReply HoldEngine(EngineHarness& harness) {
  harness.gate().Close();
  PendingReply held = harness.Submit(InMode(TextRequest("#", 1), RetrievalMode::kPrefix));
  harness.gate().AwaitWaiter();
  return held;
}

TEST(EngineCandidateTest, CachedPromptIsItsOwnCandidate) {
  EngineHarness harness;
  const std::string text = Letters(1, 40);
  harness.Run(TextRequest(text, 1));
  harness.Settle();
  const Reply reply = harness.Run(TextRequest(text, 1));
  EXPECT_TRUE(reply.result.reuse.candidate_computed);
  ASSERT_TRUE(reply.result.reuse.candidate);
  EXPECT_EQ(reply.result.reuse.candidate->similarity, 1.0f);
  EXPECT_EQ(reply.result.reuse.candidate->common_tokens, 40);
  EXPECT_EQ(reply.result.reuse.candidate->first_divergent_position, std::nullopt);
  harness.Settle();
  EXPECT_EQ(harness.embeddings(), 1);
}

TEST(EngineCandidateTest, NewPromptIsNotEmbeddedBeforeItsReplyIsOut) {
  EngineHarness harness;
  harness.Run(TextRequest("the cat sat", 0));
  harness.Settle();
  for (const int32_t tokens : {0, 1, 50}) {
    const Reply reply = harness.Run(TextRequest(Letters(tokens, 11), tokens));
    EXPECT_FALSE(reply.result.reuse.candidate_computed);
    EXPECT_EQ(reply.result.reuse.candidate, std::nullopt);
  }
  EXPECT_EQ(harness.Settle().vector_count, 4);
  EXPECT_EQ(harness.embeddings(), 4);
}

TEST(EngineCandidateTest, OldestPromptsGiveWayAtTheLimit) {
  HarnessOptions options;
  options.engine.max_prompts = 3;
  EngineHarness harness(options);
  for (int i = 0; i < 5; ++i) {
    harness.Run(TextRequest(Letters(i, 40), 0));
    harness.Settle();
  }
  const CacheStats stats = harness.Settle();
  EXPECT_EQ(stats.prompt_count, 3);
  EXPECT_EQ(stats.vector_count, 3);
  EXPECT_EQ(stats.disk.prompt_count, 3);
  EXPECT_FALSE(harness.Run(TextRequest(Letters(1, 40), 0)).result.reuse.candidate_computed);
  EXPECT_TRUE(harness.Run(TextRequest(Letters(4, 40), 0)).result.reuse.candidate_computed);
}

TEST(EngineCandidateTest, ReplyThatMayNotBeCachedIsNotIndexed) {
  EngineHarness harness;
  const Reply reply = harness.Run(TextRequest("hello", 50, CachePolicy::kReadOnly));
  EXPECT_TRUE(reply.status.ok());
  EXPECT_EQ(harness.Settle().vector_count, 0);
}

TEST(EngineCandidateTest, FailedEmbeddingFailsNoReply) {
  HarnessOptions options;
  options.before_embed = [] { return absl::InternalError("no embedding"); };
  EngineHarness harness(options);
  const Reply reply = harness.Run(TextRequest("hello", 50));
  EXPECT_TRUE(reply.status.ok());
  EXPECT_FALSE(reply.result.reuse.candidate_computed);
  harness.Settle();
  EXPECT_EQ(harness.Metric("reprise_embedding_failures_total"), 1);
}

TEST(EngineCandidateTest, NothingIsEmbeddedWhileAPromptIsPrefilled) {
  HarnessOptions options;
  options.engine.max_batch_tokens = 16;
  EngineHarness harness(options);
  PendingReply held = HoldEngine(harness);
  PendingReply decoding = harness.Submit(TextRequest("hello", 200));
  PendingReply prefilling = harness.Submit(TextRequest(Letters(2, 150), 2));
  for (int step = 0; step < 10; ++step) {
    harness.gate().LetOnePass();
    harness.gate().AwaitWaiter();
  }
  EXPECT_EQ(harness.embeddings(), 0);
  harness.gate().Open();
  for (PendingReply* pending : {&held, &decoding, &prefilling}) {
    EXPECT_TRUE(pending->reply.get().status.ok());
  }
  EXPECT_EQ(harness.Settle().vector_count, 2);
  EXPECT_EQ(harness.embeddings(), 2);
}

TEST(EngineCandidateTest, PromptsThatWaitAreEmbeddedTogetherOnceNothingRuns) {
  EngineHarness harness;
  PendingReply held = HoldEngine(harness);
  std::vector<PendingReply> replies;
  for (int i = 0; i < 5; ++i) replies.push_back(harness.Submit(TextRequest(Letters(i, 9), 0)));
  harness.gate().Open();
  for (PendingReply& pending : replies) EXPECT_TRUE(pending.reply.get().status.ok());
  EXPECT_TRUE(held.reply.get().status.ok());
  EXPECT_EQ(harness.Settle().vector_count, 5);
  EXPECT_EQ(harness.embeddings(), 5);
  EXPECT_EQ(harness.embedding_batches(), 1);
}

TEST(EngineCandidateTest, OnePromptAtATimeIsEmbeddedBesideStreamsThatDecode) {
  EngineHarness harness;
  PendingReply held = HoldEngine(harness);
  PendingReply decoding = harness.Submit(InMode(TextRequest("b", 500), RetrievalMode::kPrefix));
  std::vector<PendingReply> cached;
  for (int i = 0; i < 3; ++i) cached.push_back(harness.Submit(TextRequest(Letters(i, 9), 0)));
  for (int step = 0; step < 300 && harness.embeddings() < 3; ++step) {
    harness.gate().LetOnePass();
    harness.gate().AwaitWaiter();
    absl::SleepFor(absl::Milliseconds(1));  // the embedding thread's turn
  }
  EXPECT_EQ(harness.embeddings(), 3);
  EXPECT_EQ(harness.embedding_batches(), 0) << "a batch would hold the core for longer";
  EXPECT_EQ(decoding.reply.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  harness.gate().Open();
  EXPECT_TRUE(decoding.reply.get().status.ok());
  EXPECT_TRUE(held.reply.get().status.ok());
  EXPECT_EQ(harness.Settle().vector_count, 3);
}

TEST(EngineCandidateTest, FailedBatchIsMadeOneByOne) {
  int calls = 0;
  HarnessOptions options;
  options.before_embed = [&] {
    return ++calls == 2 ? absl::InternalError("this text") : absl::OkStatus();
  };
  EngineHarness harness(options);
  PendingReply held = HoldEngine(harness);
  std::vector<PendingReply> replies;
  for (int i = 0; i < 3; ++i) replies.push_back(harness.Submit(TextRequest(Letters(i, 9), 0)));
  harness.gate().Open();
  for (PendingReply& pending : replies) EXPECT_TRUE(pending.reply.get().status.ok());
  EXPECT_TRUE(held.reply.get().status.ok());
  EXPECT_EQ(harness.Settle().vector_count, 3);
  EXPECT_EQ(harness.Metric("reprise_embedding_failures_total"), 0);
}

TEST(EngineCandidateTest, OldestOfTooManyWaitingPromptsIsDroppedAndCounted) {
  Gate embedding;
  EngineHarness harness(EmbeddingBehind(embedding));
  embedding.Close();
  constexpr int kPrompts = 1100, kWaiting = 1024;
  for (int i = 0; i < kPrompts; ++i) harness.Run(TextRequest(Letters(i, 12), 0));
  harness.engine().GetCacheStats();  // the last one's turn has ended
  const double dropped = harness.Metric("reprise_embeddings_dropped_total");
  EXPECT_GE(dropped, kPrompts - kWaiting - 8);
  embedding.Open();
  harness.Settle();
  EXPECT_EQ(harness.embeddings() + dropped, kPrompts);
}

TEST(EngineCandidateTest, OtherModesAndPoliciesEmbedNothing) {
  EngineHarness harness;
  harness.Run(InMode(TextRequest("hello", 50), RetrievalMode::kPrefix));
  const Reply bypassed = harness.Run(TextRequest("hello", 50, CachePolicy::kBypass));
  EXPECT_FALSE(bypassed.result.reuse.candidate_computed);
  harness.Settle();
  EXPECT_EQ(harness.embeddings(), 0);
}

TEST(EngineCandidateTest, PromptThatComesTwiceAtOnceIsEmbeddedOnce) {
  EngineHarness harness;
  PendingReply held = HoldEngine(harness);
  PendingReply first = harness.Submit(TextRequest("hello", 0));
  PendingReply second = harness.Submit(TextRequest("hello", 0));
  harness.gate().Open();
  for (PendingReply* pending : {&held, &first, &second}) {
    EXPECT_TRUE(pending->reply.get().status.ok());
  }
  EXPECT_EQ(harness.Settle().vector_count, 1);
  EXPECT_EQ(harness.embeddings(), 1);
}

TEST(EngineCandidateTest, ExplanationNobodyWaitsForIsDropped) {
  Gate embedding;
  EngineHarness harness(EmbeddingBehind(embedding));
  embedding.Close();
  PendingReply first = harness.Submit(InMode(TextRequest("hello", 1), RetrievalMode::kSemantic));
  embedding.AwaitWaiter();  // holds the only embedding thread
  ExplainRequest request{.prompt = TextRequest("cot", 0).prompt, .prompt_text = "cot"};
  request.is_cancelled = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(harness.engine().Explain(request).status()));
  request.is_cancelled = nullptr;
  request.deadline = harness.clock().Monotonic();
  EXPECT_TRUE(absl::IsDeadlineExceeded(harness.engine().Explain(request).status()));
  embedding.Open();
  EXPECT_TRUE(first.reply.get().status.ok());
  harness.Settle();
  EXPECT_TRUE(harness.engine().Explain({.prompt = request.prompt, .prompt_text = "cot"}).ok());
  EXPECT_EQ(harness.embeddings(), 2) << "none for the two that had given up";
  harness.engine().Drain(absl::ZeroDuration());
  EXPECT_TRUE(absl::IsUnavailable(harness.engine().Explain({.prompt = request.prompt}).status()));
}

TEST(EngineCandidateTest, PromptsGiveWayToTheLimitOnAllTheirTokensAlsoAfterARestart) {
  HarnessOptions options;
  options.engine.max_prompt_tokens = 100;
  EngineHarness harness(options);
  for (int i = 0; i < 5; ++i) {
    harness.Run(TextRequest(Letters(i, 40), 0));
    EXPECT_LE(harness.Settle().prompt_count, 2);
  }
  EXPECT_EQ(harness.Settle().vector_count, 2);
  harness.options().engine.max_prompt_tokens = 50;
  harness.Restart();
  EXPECT_EQ(harness.Settle().prompt_count, 1);
}

// The nearest to what is asked shares no beginning with it and has lost its KV; the
// next is a beginning of it.
TEST(EngineCandidateTest, EvictedNeighbourGivesWayToOneThatCanBeReused) {
  HarnessOptions options;
  options.with_store = false;
  options.num_blocks = 20;
  options.engine.eviction.policy = EvictionPolicy::kLru;  // the older prompt goes
  EngineHarness harness(options);
  const std::string asked = Letters(1, 48), evicted(asked.rbegin(), asked.rend());
  for (const std::string& prompt : {evicted, asked.substr(0, 40)}) {
    harness.Run(TextRequest(prompt, 0));
    harness.Settle();
  }
  const auto free = static_cast<int>(harness.Settle().host_free_block_count);
  harness.Run(TextRequest(Letters(2, (free + 3) * kBlockTokens), 0, CachePolicy::kBypass));
  ASSERT_EQ(harness.Metric("reprise_host_evicted_blocks_total"), 3);
  const Reply reply = harness.Run(InMode(TextRequest(asked, 0), RetrievalMode::kSemantic));
  EXPECT_EQ(reply.result.usage.cached_tokens, 40);
  ASSERT_TRUE(reply.result.reuse.candidate);
  EXPECT_EQ(reply.result.reuse.candidate->common_tokens, 40);
  EXPECT_EQ(harness.Settle().vector_count, 2) << "the evicted one is forgotten";
  EXPECT_EQ(harness.Settle().prompt_count, 2);
}

TEST(EngineCandidateTest, SemanticMissOnAnEvictedPromptSaysSo) {
  HarnessOptions options;
  options.with_store = false;
  options.num_blocks = 13;
  EngineHarness harness(options);
  const GenerateRequest request = InMode(TextRequest(Letters(6, 40), 0), RetrievalMode::kSemantic);
  harness.Run(request);
  harness.Run(TextRequest(Letters(7, 190), 0, CachePolicy::kBypass));
  EXPECT_EQ(harness.Run(request).result.reuse.miss_reason, MissReason::kEvicted);
  EXPECT_EQ(harness.Run(request).result.usage.cached_tokens, 39);
}

TEST(EngineCandidateTest, PromptsOfAStoreThatIsOffForNowAreNotForgotten) {
  EngineHarness harness;
  const GenerateRequest request = InMode(TextRequest(Letters(6, 40), 0), RetrievalMode::kSemantic);
  harness.Run(request);
  harness.Settle();
  harness.faults().Fail(StoreOperation::kListSegments, 1);
  harness.Restart();
  harness.RestoreVectors();
  harness.Run(
      InMode(TextRequest(Letters(6, 41), 0, CachePolicy::kReadOnly), RetrievalMode::kSemantic));
  EXPECT_EQ(harness.Settle().vector_count, 1);
  harness.clock().Advance(harness.options().engine.retry_pause);
  harness.Settle();
  EXPECT_EQ(harness.Run(request).result.usage.cached_tokens, 39);
}

TEST(EngineCandidateTest, LostVectorComesBackWithItsPrompt) {
  EngineHarness harness;
  for (const RetrievalMode mode : {RetrievalMode::kHybrid, RetrievalMode::kSemantic}) {
    const GenerateRequest request = InMode(TextRequest(Letters(3, 40), 0), mode);
    harness.Run(request);
    ASSERT_EQ(harness.Settle().vector_count, 1);
    ASSERT_TRUE(harness.vectors().Remove(harness.vectors().Ids()[0]).ok());
    harness.Run(request);
    EXPECT_EQ(harness.Settle().vector_count, 1);
    EXPECT_EQ(harness.Settle().prompt_count, 1);
  }
}

TEST(EngineCandidateTest, SlowSearchHoldsUpNoOtherRequest) {
  EngineHarness harness;
  harness.Run(TextRequest("the cat sat", 0));
  harness.Settle();
  harness.search_gate().Close();
  PendingReply searching =
      harness.Submit(InMode(TextRequest("the cat sat down", 1), RetrievalMode::kSemantic));
  harness.search_gate().AwaitWaiter();
  EXPECT_TRUE(harness.Run(TextRequest("another", 5)).status.ok());
  harness.search_gate().Open();
  EXPECT_EQ(searching.reply.get().result.usage.cached_tokens, 11);
}

}  // namespace
}  // namespace reprise
