#include "server/converters.h"

#include <gtest/gtest.h>

#include "core/engine/prompt_directory.h"
#include "tests/fakes/byte_model.h"

namespace reprise::server {
namespace {

namespace wire = inference::v1;

wire::Divergence MakeDivergence(int32_t position, const std::string& before,
                                const std::string& prompt, const std::string& prompt_after,
                                const std::string& cached, const std::string& cached_after) {
  wire::Divergence divergence;
  divergence.set_position(position);
  divergence.set_context_before(before);
  divergence.set_prompt_token_text(prompt);
  divergence.set_prompt_context_after(prompt_after);
  divergence.set_cached_token_text(cached);
  divergence.set_cached_context_after(cached_after);
  return divergence;
}

class ConvertersTest : public testing::Test {
 protected:
  wire::Generation Convert(const GenerateResult& result) {
    wire::Generation out;
    FillGeneration(result, model_.facts, out);
    return out;
  }

  ByteModel model_{64};
};

template <typename From, typename To>
using Pairs = std::vector<std::pair<From, To>>;

TEST_F(ConvertersTest, FinishReasonsMapByName) {
  const Pairs<FinishReason, wire::FinishReason> pairs = {
      {FinishReason::kStop, wire::FINISH_REASON_STOP},
      {FinishReason::kStopSequence, wire::FINISH_REASON_STOP_SEQUENCE},
      {FinishReason::kMaxTokens, wire::FINISH_REASON_MAX_TOKENS},
      {FinishReason::kContextLength, wire::FINISH_REASON_CONTEXT_LENGTH}};
  for (const auto& [from, to] : pairs) {
    GenerateResult result;
    result.finish_reason = from;
    EXPECT_EQ(Convert(result).finish_reason(), to) << wire::FinishReason_Name(to);
  }
}

TEST_F(ConvertersTest, DecisionsMapByName) {
  const Pairs<ReuseDecision, wire::ReuseDecision> pairs = {
      {ReuseDecision::kReused, wire::REUSE_DECISION_REUSED},
      {ReuseDecision::kPartial, wire::REUSE_DECISION_PARTIAL},
      {ReuseDecision::kRecomputed, wire::REUSE_DECISION_RECOMPUTED},
      {ReuseDecision::kMiss, wire::REUSE_DECISION_MISS},
      {ReuseDecision::kBypassed, wire::REUSE_DECISION_BYPASSED}};
  for (const auto& [from, to] : pairs) {
    GenerateResult result;
    result.reuse.decision = from;
    EXPECT_EQ(Convert(result).reuse().decision(), to) << wire::ReuseDecision_Name(to);
  }
}

TEST_F(ConvertersTest, ReasonsMapByName) {
  const Pairs<ReuseReason, wire::ReuseReason> pairs = {
      {ReuseReason::kNone, wire::REUSE_REASON_NONE},
      {ReuseReason::kFasterToLoad, wire::REUSE_REASON_FASTER_TO_LOAD},
      {ReuseReason::kForced, wire::REUSE_REASON_FORCED},
      {ReuseReason::kSlowerToLoad, wire::REUSE_REASON_SLOWER_TO_LOAD},
      {ReuseReason::kBelowMinimumDepth, wire::REUSE_REASON_BELOW_MINIMUM_DEPTH},
      {ReuseReason::kLoadFailed, wire::REUSE_REASON_LOAD_FAILED},
      {ReuseReason::kPolicyBypass, wire::REUSE_REASON_POLICY_BYPASS},
      {ReuseReason::kFullPrefixRequired, wire::REUSE_REASON_FULL_PREFIX_REQUIRED}};
  for (const auto& [from, to] : pairs) {
    GenerateResult result;
    result.reuse.reason = from;
    EXPECT_EQ(Convert(result).reuse().reason(), to) << wire::ReuseReason_Name(to);
  }
}

TEST_F(ConvertersTest, MissReasonsMapByName) {
  const Pairs<MissReason, wire::MissReason> pairs = {
      {MissReason::kNone, wire::MISS_REASON_NONE},
      {MissReason::kCacheEmpty, wire::MISS_REASON_CACHE_EMPTY},
      {MissReason::kDiverges, wire::MISS_REASON_DIVERGES},
      {MissReason::kNoCandidate, wire::MISS_REASON_NO_CANDIDATE},
      {MissReason::kTooShort, wire::MISS_REASON_TOO_SHORT},
      {MissReason::kEvicted, wire::MISS_REASON_EVICTED},
      {MissReason::kBypassed, wire::MISS_REASON_BYPASSED},
      {MissReason::kEmbeddingFailed, wire::MISS_REASON_EMBEDDING_FAILED}};
  for (const auto& [from, to] : pairs) {
    GenerateResult result;
    result.reuse.miss_reason = from;
    EXPECT_EQ(Convert(result).reuse().miss_reason(), to) << wire::MissReason_Name(to);
  }
}

TEST_F(ConvertersTest, RetrievalModesMapByName) {
  const Pairs<RetrievalMode, wire::RetrievalMode> pairs = {
      {RetrievalMode::kPrefix, wire::RETRIEVAL_MODE_PREFIX},
      {RetrievalMode::kSemantic, wire::RETRIEVAL_MODE_SEMANTIC},
      {RetrievalMode::kHybrid, wire::RETRIEVAL_MODE_HYBRID}};
  for (const auto& [from, to] : pairs) {
    GenerateResult result;
    result.reuse.mode = from;
    EXPECT_EQ(Convert(result).reuse().retrieval_mode(), to) << wire::RetrievalMode_Name(to);
  }
}

TEST_F(ConvertersTest, CandidateStatusTellsAbsentFromNotComputed) {
  GenerateResult result;
  EXPECT_EQ(Convert(result).reuse().candidate_status(), wire::CANDIDATE_STATUS_NOT_COMPUTED);
  result.reuse.candidate_computed = true;
  EXPECT_EQ(Convert(result).reuse().candidate_status(), wire::CANDIDATE_STATUS_NONE);
  EXPECT_FALSE(Convert(result).reuse().has_candidate());
  result.reuse.candidate = Candidate{7, 0.5f, 3, std::nullopt};
  const auto reuse = Convert(result).reuse();
  EXPECT_EQ(reuse.candidate_status(), wire::CANDIDATE_STATUS_FOUND);
  EXPECT_EQ(reuse.candidate().prompt_id(), 7u);
  EXPECT_EQ(reuse.candidate().similarity(), 0.5f);
  EXPECT_EQ(reuse.candidate().common_token_count(), 3);
  EXPECT_FALSE(reuse.candidate().has_first_divergent_position());
}

// A result whose every number is another one.
GenerateResult DistinctResult() {
  GenerateResult r;
  r.output_ids = {5, 6};
  r.text = "text";
  r.matched_stop = "stop";
  r.seed = 99;
  r.usage = {40, 30, 10, 2, 9, 1};
  r.timings = {absl::Milliseconds(1), absl::Milliseconds(2), absl::Milliseconds(3),
               absl::Milliseconds(4), absl::Milliseconds(5), absl::Milliseconds(6),
               absl::Milliseconds(7), absl::Milliseconds(8), absl::Milliseconds(9)};
  r.reuse.decided = true;
  r.reuse.device_tokens = 11;
  r.reuse.host_tokens = 12;
  r.reuse.disk_tokens = 13;
  r.reuse.in_flight_tokens = 8;
  r.reuse.split_tokens = 7;
  r.reuse.predicted_total = absl::Milliseconds(25);
  r.reuse.ideal_tokens = 39;
  r.reuse.predicted_load = absl::Milliseconds(21);
  r.reuse.predicted_prefill = absl::Milliseconds(22);
  r.reuse.predicted_cold_prefill = absl::Milliseconds(23);
  r.reuse.actual_load = absl::Milliseconds(24);
  r.reuse.entry_age = absl::Seconds(3) + absl::Nanoseconds(5);
  r.reuse.disk_bytes_read = int64_t{1} << 40;
  r.reuse.exact = false;
  return r;
}

int64_t Millis(const google::protobuf::Duration& d) {
  return d.seconds() * 1000 + d.nanos() / 1000000;
}

TEST_F(ConvertersTest, GenerationCarriesUsageAndTimings) {
  const wire::Generation out = Convert(DistinctResult());
  EXPECT_EQ(out.text(), "text");
  EXPECT_EQ(out.token_ids_size(), 2);
  EXPECT_EQ(out.matched_stop_sequence(), "stop");
  EXPECT_EQ(out.seed(), 99);
  EXPECT_EQ(out.usage().prompt_token_count(), 40);
  EXPECT_EQ(out.usage().cached_token_count(), 30);
  EXPECT_EQ(out.usage().computed_token_count(), 10);
  EXPECT_EQ(out.usage().output_token_count(), 2);
  EXPECT_EQ(out.usage().draft_token_count(), 9);
  EXPECT_EQ(out.usage().accepted_token_count(), 1);
  EXPECT_EQ(Millis(out.timings().queue()), 1);
  EXPECT_EQ(Millis(out.timings().tokenize()), 2);
  EXPECT_EQ(Millis(out.timings().lookup()), 3);
  EXPECT_EQ(Millis(out.timings().load()), 4);
  EXPECT_EQ(Millis(out.timings().prefill()), 5);
  EXPECT_EQ(Millis(out.timings().time_to_first_token()), 6);
  EXPECT_EQ(Millis(out.timings().decode()), 7);
  EXPECT_EQ(Millis(out.timings().total()), 8);
  EXPECT_EQ(Millis(out.timings().shared_wait()), 9);
}

TEST_F(ConvertersTest, GenerationCarriesReuse) {
  const wire::Reuse reuse = Convert(DistinctResult()).reuse();
  EXPECT_EQ(reuse.device_token_count(), 11);
  EXPECT_EQ(reuse.host_token_count(), 12);
  EXPECT_EQ(reuse.disk_token_count(), 13);
  EXPECT_EQ(reuse.in_flight_token_count(), 8);
  EXPECT_EQ(reuse.split_token_count(), 7);
  EXPECT_EQ(Millis(reuse.predicted_total()), 25);
  EXPECT_EQ(reuse.ideal_token_count(), 39);
  EXPECT_EQ(Millis(reuse.predicted_load()), 21);
  EXPECT_EQ(Millis(reuse.predicted_prefill()), 22);
  EXPECT_EQ(Millis(reuse.predicted_cold_prefill()), 23);
  EXPECT_EQ(Millis(reuse.actual_load()), 24);
  EXPECT_EQ(reuse.entry_age().seconds(), 3);
  EXPECT_EQ(reuse.entry_age().nanos(), 5);
  EXPECT_EQ(reuse.disk_read_bytes(), int64_t{1} << 40);
  EXPECT_EQ(reuse.numerics_id(), "scripted");
  EXPECT_FALSE(reuse.exact());
}

TEST_F(ConvertersTest, SummarySaysTheSameAsTheReply) {
  GenerateResult result = DistinctResult();
  result.reuse.mode = RetrievalMode::kPrefix;
  result.reuse.decision = ReuseDecision::kPartial;
  result.reuse.reason = ReuseReason::kLoadFailed;
  result.reuse.miss_reason = MissReason::kEvicted;
  result.finish_reason = FinishReason::kStopSequence;
  RequestSummary summary;
  FillSummary(result, summary);
  EXPECT_EQ(summary.retrieval_mode, "PREFIX");
  EXPECT_EQ(summary.decision, "PARTIAL");
  EXPECT_EQ(summary.reason, "LOAD_FAILED");
  EXPECT_EQ(summary.miss_reason, "EVICTED");
  EXPECT_EQ(summary.finish_reason, "STOP_SEQUENCE");
  EXPECT_EQ(summary.cached_tokens + summary.computed_tokens, summary.prompt_tokens);
  EXPECT_EQ(summary.cached_tokens, 30);
  EXPECT_EQ(summary.draft_tokens, 9);
  EXPECT_EQ(summary.accepted_tokens, 1);
  EXPECT_EQ(summary.device_tokens, 11);
  EXPECT_EQ(summary.host_tokens, 12);
  EXPECT_EQ(summary.disk_tokens, 13);
  EXPECT_EQ(summary.in_flight_tokens, 8);
  EXPECT_EQ(summary.split_tokens, 7);
  EXPECT_EQ(summary.predicted_total, result.reuse.predicted_total);
  EXPECT_EQ(summary.shared_wait, result.timings.shared_wait);
  EXPECT_EQ(summary.disk_bytes_read, int64_t{1} << 40);
  EXPECT_EQ(summary.decode, result.timings.decode);
  EXPECT_EQ(summary.time_to_first_token, result.timings.time_to_first_token);
  EXPECT_EQ(summary.actual_load, result.reuse.actual_load);
  EXPECT_EQ(summary.predicted_cold_prefill, result.reuse.predicted_cold_prefill);
  EXPECT_EQ(summary.entry_age, result.reuse.entry_age);
  EXPECT_FALSE(summary.exact);
  EXPECT_EQ(summary.candidate_status, "NOT_COMPUTED");
  result.reuse.candidate_computed = true;
  result.reuse.candidate = Candidate{7, 0.5f, 3, std::nullopt};
  FillSummary(result, summary);
  EXPECT_EQ(summary.candidate_status, "FOUND");
  EXPECT_EQ(summary.candidate_id, "7");
  EXPECT_EQ(summary.candidate_similarity, 0.5);
  EXPECT_EQ(summary.candidate_common_tokens, 3);
}

TEST_F(ConvertersTest, SummaryOfARequestThatEndedInTheQueueHasNoDecision) {
  GenerateResult result;
  result.usage.prompt_tokens = 500;
  result.timings.queue = absl::Seconds(9);
  RequestSummary summary;
  FillSummary(result, summary);
  EXPECT_EQ(summary.decision + summary.reason + summary.miss_reason, "");
  EXPECT_EQ(summary.retrieval_mode, "HYBRID");
  EXPECT_EQ(summary.queue, absl::Seconds(9));
}

// One byte a token; 256 is special.
TEST_F(ConvertersTest, DivergenceShowsBothTokensAndTheirNeighbours) {
  using Ids = std::vector<TokenId>;
  const Ids cat = {'t', 'h', 'e', ' ', 'c', 'a', 't', 's'};
  const struct {
    const char* name;
    Ids prompt, cached;
    int32_t context;
    wire::Divergence expected;
  } kCases[] = {
      {"in the middle",
       {'t', 'h', 'e', ' ', 'c', 'u', 'p', 's'},
       cat,
       2,
       MakeDivergence(5, " c", "u", "ps", "a", "ts")},
      {"at the first token", {'T', 'h'}, cat, 3, MakeDivergence(0, "", "T", "h", "t", "he ")},
      {"this prompt ends", {'t', 'h'}, cat, 3, MakeDivergence(2, "th", "", "", "e", " ca")},
      {"the cached one ends", cat, {'t', 'h'}, 3, MakeDivergence(2, "th", "e", " ca", "", "")},
      {"a special token",
       {256, 't', 'h'},
       {'t', 'h'},
       8,
       MakeDivergence(0, "", "<|eos|>", "th", "t", "h")},
      {"half a character",
       {0xC3, 0xA9},
       {0xC3, 0xA8},
       8,
       MakeDivergence(1, "\uFFFD", "\uFFFD", "", "\uFFFD", "")},
  };
  for (const auto& c : kCases) {
    PromptDirectory prompts;
    Explanation explanation;
    explanation.nearest = prompts.Compare({*prompts.Add(c.cached), 0.9f}, c.prompt);
    explanation.nearest_ids = c.cached;
    wire::ExplainPromptResponse out;
    FillExplanation(explanation, {{c.prompt, ""}, c.context}, model_.facts, out);
    wire::Divergence expected = c.expected;
    const auto at = static_cast<size_t>(expected.position());
    if (at < c.prompt.size()) expected.set_prompt_token_id(c.prompt[at]);
    if (at < c.cached.size()) expected.set_cached_token_id(c.cached[at]);
    EXPECT_EQ(out.divergence().ShortDebugString(), expected.ShortDebugString()) << c.name;
  }
}

TEST_F(ConvertersTest, ExplanationOfACachedPromptOrWithoutNeighbourHasNoDivergence) {
  wire::ExplainPromptResponse out;
  FillExplanation({}, {{{1, 2}, ""}}, model_.facts, out);
  EXPECT_FALSE(out.has_nearest());
  EXPECT_FALSE(out.has_divergence());
  Explanation same;
  same.nearest = Candidate{3, 1.0f, 2, std::nullopt};
  same.nearest_ids = {1, 2};
  FillExplanation(same, {{{1, 2}, ""}}, model_.facts, out);
  EXPECT_TRUE(out.has_nearest());
  EXPECT_FALSE(out.has_divergence());
}

TEST_F(ConvertersTest, ExplanationSaysWhatItWouldCost) {
  Explanation explanation;
  explanation.predicted_cold_prefill = absl::Milliseconds(9);
  explanation.predicted_warm_prefill = absl::Milliseconds(5);
  explanation.predicted_load = absl::Milliseconds(3);
  explanation.load_bytes = 77;
  wire::ExplainPromptResponse out;
  FillExplanation(explanation, {{{1, 2}, ""}}, model_.facts, out);
  EXPECT_EQ(out.predicted_cold_prefill().nanos(), 9000000);
  EXPECT_EQ(out.predicted_warm_prefill().nanos(), 5000000);
  EXPECT_EQ(out.predicted_load().nanos(), 3000000);
  EXPECT_EQ(out.predicted_prefill().nanos(), 2000000);
  EXPECT_EQ(out.load_bytes(), 77);
}

TEST_F(ConvertersTest, StatsKeepEveryCount) {
  CacheStats stats;
  stats.host_block_count = 1;
  stats.host_cached_block_count = 2;
  stats.host_free_block_count = 3;
  stats.host_block_bytes = 4;
  stats.host_cached_tokens = 5;
  stats.disk_enabled = true;
  stats.disk = {6, 0, 7, 8, 9, 10, 11};
  stats.disk_cached_tokens = 12;
  stats.pending_write_segments = 13;
  stats.durable_segments = 14;
  stats.vector_count = 15;
  stats.prompt_count = 16;
  stats.running_sequences = 17;
  stats.queued_requests = 18;
  admin::v1::GetCacheStatsResponse out;
  FillStats(stats, out);
  EXPECT_EQ(out.host().block_count(), 1);
  EXPECT_EQ(out.host().cached_block_count(), 2);
  EXPECT_EQ(out.host().free_block_count(), 3);
  EXPECT_EQ(out.host().block_bytes(), 4);
  EXPECT_EQ(out.host().cached_token_count(), 5);
  EXPECT_TRUE(out.disk().enabled());
  EXPECT_EQ(out.disk().segment_count(), 6);
  EXPECT_EQ(out.disk().payload_bytes(), 7);
  EXPECT_EQ(out.disk().disk_bytes(), 8);
  EXPECT_EQ(out.disk().read_bytes(), 9);
  EXPECT_EQ(out.disk().written_bytes(), 10);
  EXPECT_EQ(out.disk().corrupt_segment_count(), 11);
  EXPECT_EQ(out.disk().cached_token_count(), 12);
  EXPECT_EQ(out.disk().pending_segment_count(), 13);
  EXPECT_EQ(out.disk().durable_segment_count(), 14);
  EXPECT_EQ(out.similarity().vector_count(), 15);
  EXPECT_EQ(out.similarity().prompt_count(), 16);
  EXPECT_EQ(out.running_sequence_count(), 17);
  EXPECT_EQ(out.queued_request_count(), 18);
}

}  // namespace
}  // namespace reprise::server
