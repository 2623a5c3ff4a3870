// What the engine reuses, and that it never shows in the reply but in the account.
#include <gtest/gtest.h>

#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

constexpr CachePolicy kPolicies[] = {CachePolicy::kUse, CachePolicy::kForce,
                                     CachePolicy::kReadOnly};

GenerateRequest InMode(GenerateRequest request, RetrievalMode mode) {
  request.retrieval_mode = mode;
  return request;
}

void ExpectAccount(const Reply& reply, int32_t cached) {
  EXPECT_TRUE(reply.status.ok()) << reply.status;
  EXPECT_EQ(reply.result.usage.cached_tokens, cached);
  EXPECT_EQ(reply.result.usage.cached_tokens + reply.result.usage.computed_tokens,
            reply.result.usage.prompt_tokens);
}

class EngineReuseTest : public testing::TestWithParam<RetrievalMode> {};

std::string ModeName(const testing::TestParamInfo<RetrievalMode>& info) {
  if (info.param == RetrievalMode::kPrefix) return "Prefix";
  return info.param == RetrievalMode::kSemantic ? "Semantic" : "Hybrid";
}

INSTANTIATE_TEST_SUITE_P(All, EngineReuseTest,
                         testing::Values(RetrievalMode::kPrefix, RetrievalMode::kSemantic,
                                         RetrievalMode::kHybrid),
                         ModeName);

TEST_P(EngineReuseTest, WarmReplyEqualsColdAtEveryLength) {
  EngineHarness harness;
  const std::string text = Letters(1, 200);
  for (int length = 2; length <= 200; length += 11) {
    const std::string prompt = text.substr(0, length);
    const Reply cold =
        harness.Run(InMode(TextRequest(prompt, 20, CachePolicy::kBypass), GetParam()));
    harness.Run(InMode(TextRequest(prompt, 20), GetParam()));
    harness.Settle();
    for (const CachePolicy policy : kPolicies) {
      const Reply warm = harness.Run(InMode(TextRequest(prompt, 20, policy), GetParam()));
      ExpectAccount(warm, length - 1);
      EXPECT_EQ(warm.result.output_ids, cold.result.output_ids) << length;
      EXPECT_EQ(warm.result.text, cold.result.text) << length;
      EXPECT_EQ(warm.streamed, cold.streamed) << length;
      EXPECT_EQ(warm.result.reuse.mode, GetParam());
    }
  }
}

TEST_P(EngineReuseTest, LongerPromptReusesTheShorterOne) {
  EngineHarness harness;
  const std::string text = Letters(2, 100);
  harness.Run(InMode(TextRequest(text.substr(0, 70), 0), GetParam()));
  harness.Settle();
  const Reply warm = harness.Run(InMode(TextRequest(text, 10), GetParam()));
  const Reply cold = harness.Run(TextRequest(text, 10, CachePolicy::kBypass));
  ExpectAccount(warm, 70);
  EXPECT_EQ(warm.result.reuse.host_tokens, 70);
  EXPECT_EQ(warm.result.reuse.decision, ReuseDecision::kReused);
  EXPECT_EQ(warm.result.output_ids, cold.result.output_ids);
}

TEST_P(EngineReuseTest, RestartReusesToTheSameDepthFromDiskOnly) {
  EngineHarness harness;
  const std::string text = Letters(3, 150);
  const Reply cold = harness.Run(InMode(TextRequest(text, 12), GetParam()));
  harness.Settle();
  harness.Restart();
  harness.RestoreVectors();
  const Reply warm = harness.Run(InMode(TextRequest(text, 12), GetParam()));
  ExpectAccount(warm, 149);
  EXPECT_EQ(warm.result.reuse.disk_tokens, 149);
  EXPECT_EQ(warm.result.reuse.host_tokens, 0);
  EXPECT_GT(warm.result.reuse.disk_bytes_read, 0);
  EXPECT_EQ(warm.result.output_ids, cold.result.output_ids);
}

TEST(EngineAccountTest, GeneratedTokensAreReusedByTheNextTurn) {
  EngineHarness harness;
  const std::string turn = Letters(4, 50);
  const Reply first = harness.Run(TextRequest(turn, 30));
  const Reply second = harness.Run(TextRequest(turn + first.result.text + "and then", 10));
  // The last token of a reply is never fed to the model, so its KV does not exist.
  ExpectAccount(second, 50 + 29);
}

TEST(EngineAccountTest, PromptThatPartsInsideABlockReusesUpToThere) {
  EngineHarness harness;
  const std::string text = Letters(5, 60);
  harness.Run(TextRequest(text, 0));
  const std::string other = text.substr(0, 37) + "#" + text.substr(38);
  const Reply warm = harness.Run(TextRequest(other, 10));
  ExpectAccount(warm, 37);
  EXPECT_EQ(warm.result.output_ids,
            harness.Run(TextRequest(other, 10, CachePolicy::kBypass)).result.output_ids);
  ExpectAccount(harness.Run(TextRequest(text, 0)), 59);
}

TEST(EngineAccountTest, MissesSayWhy) {
  EngineHarness harness;
  const Reply empty = harness.Run(TextRequest("hello", 0));
  EXPECT_EQ(empty.result.reuse.decision, ReuseDecision::kMiss);
  EXPECT_EQ(empty.result.reuse.miss_reason, MissReason::kCacheEmpty);
  const Reply diverges = harness.Run(TextRequest("other", 0));
  EXPECT_EQ(diverges.result.reuse.miss_reason, MissReason::kDiverges);
  const Reply single = harness.Run(TextRequest("h", 0));
  EXPECT_EQ(single.result.reuse.miss_reason, MissReason::kTooShort);
  const Reply bypassed = harness.Run(TextRequest("hello", 0, CachePolicy::kBypass));
  EXPECT_EQ(bypassed.result.reuse.decision, ReuseDecision::kBypassed);
  EXPECT_EQ(bypassed.result.reuse.miss_reason, MissReason::kBypassed);
}

TEST(EngineAccountTest, KnownPromptWhoseKvIsGoneWasEvicted) {
  HarnessOptions options;
  options.num_blocks = 13;
  options.with_store = false;
  EngineHarness harness(options);
  harness.Run(TextRequest(Letters(6, 40), 0));
  harness.Settle();
  for (const uint32_t seed : {7, 8}) harness.Run(TextRequest(Letters(seed, 190), 0));
  const Reply reply = harness.Run(TextRequest(Letters(6, 40), 0));
  ExpectAccount(reply, 0);
  EXPECT_EQ(reply.result.reuse.miss_reason, MissReason::kEvicted);
}

TEST(EngineAccountTest, ReadOnlyAndBypassLeaveNothingBehind) {
  EngineHarness harness;
  for (const CachePolicy policy : {CachePolicy::kReadOnly, CachePolicy::kBypass}) {
    harness.Run(TextRequest(Letters(8, 100), 20, policy));
  }
  const CacheStats stats = harness.Settle();
  EXPECT_EQ(stats.host_cached_block_count, 0);
  EXPECT_EQ(stats.host_free_block_count, stats.host_block_count);
  EXPECT_EQ(stats.disk.segment_count, 0);
  EXPECT_EQ(stats.prompt_count, 0);
  EXPECT_EQ(stats.vector_count, 0);
}

TEST(EngineAccountTest, MinimumDepthIsKept) {
  EngineHarness harness;
  harness.Run(TextRequest("hello", 0));
  GenerateRequest request = TextRequest("hello world", 0);
  request.minimum_reuse_tokens = 6;
  const Reply reply = harness.Run(request);
  ExpectAccount(reply, 0);
  EXPECT_EQ(reply.result.reuse.reason, ReuseReason::kBelowMinimumDepth);
  EXPECT_EQ(reply.result.reuse.ideal_tokens, 5);
}

TEST(EngineAccountTest, SemanticFindsNothingInAnEmptiedVectorIndex) {
  EngineHarness harness;
  const GenerateRequest request = InMode(TextRequest(Letters(9, 80), 5), RetrievalMode::kSemantic);
  const Reply cold = harness.Run(request);
  harness.Settle();
  ExpectAccount(harness.Run(request), 79);
  harness.Settle();  // its vector would be made again
  for (const uint64_t id : harness.vectors().Ids()) ASSERT_TRUE(harness.vectors().Remove(id).ok());
  const Reply reply = harness.Run(request);
  ExpectAccount(reply, 0);
  EXPECT_EQ(reply.result.reuse.decision, ReuseDecision::kMiss);
  EXPECT_EQ(reply.result.reuse.miss_reason, MissReason::kNoCandidate);
  EXPECT_EQ(reply.result.output_ids, cold.result.output_ids);
}

TEST(EngineAccountTest, SemanticTakesACandidateOnlyAsAWholeUnlessTold) {
  for (const bool whole : {true, false}) {
    HarnessOptions options;
    options.engine.require_full_prefix = whole;
    EngineHarness harness(options);
    harness.Run(InMode(TextRequest("aaaa bbbb cccc", 0), RetrievalMode::kSemantic));
    const Reply reply =
        harness.Run(InMode(TextRequest("aaaa bbbb dddd", 0), RetrievalMode::kSemantic));
    ExpectAccount(reply, whole ? 0 : 10);
    EXPECT_EQ(reply.result.reuse.reason,
              whole ? ReuseReason::kFullPrefixRequired : ReuseReason::kFasterToLoad);
    EXPECT_EQ(reply.result.reuse.miss_reason, whole ? MissReason::kDiverges : MissReason::kNone);
    ASSERT_TRUE(reply.result.reuse.candidate);
    EXPECT_EQ(reply.result.reuse.candidate->first_divergent_position, 10);
    const Reply apart = harness.Run(InMode(TextRequest("zzzz", 0), RetrievalMode::kSemantic));
    EXPECT_EQ(apart.result.reuse.miss_reason, MissReason::kDiverges);
  }
}

TEST(EngineAccountTest, SemanticWithoutAnEmbeddingRecomputes) {
  HarnessOptions options;
  options.before_embed = [] { return absl::InternalError("no embedding"); };
  EngineHarness harness(options);
  const GenerateRequest request = InMode(TextRequest("hello", 3), RetrievalMode::kSemantic);
  harness.Run(request);
  const Reply reply = harness.Run(request);
  ExpectAccount(reply, 0);
  EXPECT_EQ(reply.result.reuse.miss_reason, MissReason::kEmbeddingFailed);
  EXPECT_GE(harness.Metric("reprise_embedding_failures_total"), 2);
}

TEST(EngineAccountTest, RequestsTogetherGiveWhatEachGivesAlone) {
  EngineHarness harness;
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 24; ++i) {
    const CachePolicy policy = i % 5 == 0 ? CachePolicy::kBypass : CachePolicy::kForce;
    requests.push_back(
        TextRequest(Letters(i % 3, 40 + 7 * (i % 4)) + Letters(100 + i % 4, i), 1 + i % 9, policy));
  }
  std::vector<PendingReply> pending;
  for (const GenerateRequest& request : requests) pending.push_back(harness.Submit(request));
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].cache_policy = CachePolicy::kBypass;
    const Reply together = pending[i].reply.get();
    EXPECT_TRUE(together.status.ok());
    EXPECT_EQ(together.result.output_ids, harness.Run(requests[i]).result.output_ids) << i;
  }
}

TEST(EngineAccountTest, ExplainSaysWhatAReplyWouldHaveDone) {
  EngineHarness harness;
  harness.Run(TextRequest("the cat sat", 0));
  harness.Settle();
  const ExplainRequest request{.prompt = TextRequest("the cot sat", 0).prompt,
                               .prompt_text = "the cot sat"};
  const auto explanation = harness.engine().Explain(request);
  ASSERT_TRUE(explanation.ok()) << explanation.status();
  EXPECT_EQ(explanation->host_tokens, 5);
  EXPECT_EQ(explanation->disk_tokens, 5);
  EXPECT_EQ(explanation->decision, ReuseDecision::kReused);
  ASSERT_TRUE(explanation->nearest);
  EXPECT_EQ(explanation->nearest->first_divergent_position, 5);
  EXPECT_EQ(explanation->nearest_ids, TextRequest("the cat sat", 0).prompt);
  EXPECT_EQ(harness.engine().Explain({}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace reprise
