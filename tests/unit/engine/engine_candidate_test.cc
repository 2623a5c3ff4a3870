// The nearest cached prompt in HYBRID replies: there when it costs no token any
// time, and embedded once.
#include <gtest/gtest.h>

#include <thread>

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

void AwaitEmbeddings(const EngineHarness& harness, int count) {
  while (harness.embeddings() < count) std::this_thread::yield();
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

TEST(EngineCandidateTest, ShortReplyToANewPromptHasNone) {
  EngineHarness harness;
  harness.Run(TextRequest("the cat sat", 0));
  harness.Settle();
  for (const int32_t tokens : {0, 1}) {
    const Reply reply =
        harness.Run(TextRequest(tokens == 0 ? "the cot sat" : "the cut sat", tokens));
    EXPECT_FALSE(reply.result.reuse.candidate_computed);
    EXPECT_EQ(reply.result.reuse.candidate, std::nullopt);
  }
}

TEST(EngineCandidateTest, LongReplyFindsTheNearestPromptAndEmbedsOnce) {
  EngineHarness harness;
  for (const char* text : {"the cat sat", "zzzz yyyy", "qqq"}) harness.Run(TextRequest(text, 0));
  harness.Settle();
  ASSERT_EQ(harness.embeddings(), 3);
  harness.gate().Close();
  PendingReply pending = harness.Submit(TextRequest("the cot sat", 50));
  harness.gate().AwaitWaiter();
  harness.gate().LetOnePass();
  AwaitEmbeddings(harness, 4);
  // Work on the embedder runs in order: once this one is embedded, the search is over.
  auto explain = std::async(std::launch::async, [&] {
    return harness.engine().Explain({{1}, "x"});
  });
  AwaitEmbeddings(harness, 5);
  EXPECT_EQ(harness.steps(), 4) << "the second step still stands at the gate";
  harness.gate().Open();
  const Reply reply = pending.reply.get();
  EXPECT_TRUE(explain.get().ok());
  EXPECT_TRUE(reply.result.reuse.candidate_computed);
  ASSERT_TRUE(reply.result.reuse.candidate);
  EXPECT_GT(reply.result.reuse.candidate->similarity, 0.7f);
  EXPECT_EQ(reply.result.reuse.candidate->first_divergent_position, 5);
  EXPECT_EQ(harness.Settle().vector_count, 4);
  EXPECT_EQ(harness.embeddings(), 5) << "the index took the reply's embedding";
}

TEST(EngineCandidateTest, EmptyIndexGivesNoneOnceLookedFor) {
  EngineHarness harness;
  harness.gate().Close();
  PendingReply pending = harness.Submit(TextRequest("hello", 50));
  harness.gate().AwaitWaiter();
  harness.gate().LetOnePass();
  auto explain = std::async(std::launch::async, [&] {
    return harness.engine().Explain({{1}, "x"});
  });
  AwaitEmbeddings(harness, 2);
  harness.gate().Open();
  const Reply reply = pending.reply.get();
  EXPECT_TRUE(explain.get().ok());
  EXPECT_TRUE(reply.result.reuse.candidate_computed);
  EXPECT_EQ(reply.result.reuse.candidate, std::nullopt);
}

TEST(EngineCandidateTest, EmbeddingThatComesAfterTheReplyIsIndexedAndNotRepeated) {
  Gate embedder;
  HarnessOptions options;
  options.before_embed = [&] {
    embedder.Pass();
    return absl::OkStatus();
  };
  EngineHarness harness(options);
  embedder.Close();
  const Reply reply = harness.Run(TextRequest("hello", 20));
  EXPECT_TRUE(reply.status.ok());
  EXPECT_FALSE(reply.result.reuse.candidate_computed);
  embedder.Open();
  const CacheStats stats = harness.Settle();
  EXPECT_EQ(stats.vector_count, 1);
  EXPECT_EQ(stats.prompt_count, 1);
  EXPECT_EQ(harness.embeddings(), 1);
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

}  // namespace
}  // namespace reprise
