#include "client/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise::client {
namespace {

using inference::v1::Generation;
using ::testing::HasSubstr;

TEST(FormatTest, SummaryNamesTiersDecisionAndTimes) {
  Generation generation;
  generation.mutable_usage()->set_prompt_token_count(13);
  generation.mutable_usage()->set_cached_token_count(8);
  generation.mutable_usage()->set_output_token_count(11);
  generation.mutable_reuse()->set_disk_token_count(8);
  generation.mutable_reuse()->set_decision(inference::v1::REUSE_DECISION_REUSED);
  generation.mutable_reuse()->set_reason(inference::v1::REUSE_REASON_FORCED);
  generation.mutable_timings()->mutable_decode()->set_nanos(100000000);
  generation.set_finish_reason(inference::v1::FINISH_REASON_MAX_TOKENS);
  const std::string line = SummaryLine(generation);
  EXPECT_THAT(line,
              HasSubstr("reuse 8 of 13 prompt tokens (device 0, host 0, disk 8) REUSED/FORCED"));
  EXPECT_THAT(line, HasSubstr("11 tokens out, 10.0 ms each | MAX_TOKENS"));
}

TEST(FormatTest, SummaryShowsAcceptedDraftsWhereThereAreSome) {
  Generation generation;
  generation.mutable_usage()->set_output_token_count(11);
  generation.mutable_usage()->set_draft_token_count(12);
  generation.mutable_usage()->set_accepted_token_count(7);
  EXPECT_THAT(SummaryLine(generation),
              HasSubstr("11 tokens out, 0.0 ms each (7 of 12 drafted accepted) | "));
}

TEST(FormatTest, SummaryOfAMissGivesItsReason) {
  Generation generation;
  generation.mutable_reuse()->set_decision(inference::v1::REUSE_DECISION_MISS);
  generation.mutable_reuse()->set_miss_reason(inference::v1::MISS_REASON_CACHE_EMPTY);
  EXPECT_THAT(SummaryLine(generation), HasSubstr("MISS/CACHE_EMPTY"));
}

TEST(FormatTest, ExplanationShowsTheDivergence) {
  inference::v1::ExplainPromptResponse explanation;
  explanation.set_miss_reason(inference::v1::MISS_REASON_DIVERGES);
  explanation.mutable_nearest()->set_similarity(0.5f);
  explanation.mutable_divergence()->set_position(3);
  explanation.mutable_divergence()->set_context_before("caf\u00e9\n");
  explanation.mutable_divergence()->set_prompt_token_text(" cat");
  explanation.mutable_divergence()->set_prompt_token_id(5);
  explanation.mutable_divergence()->set_prompt_context_after(" sat");
  const std::string text = ExplanationText(explanation);
  EXPECT_THAT(text, HasSubstr("similarity 0.500"));
  EXPECT_THAT(text, HasSubstr("diverges        at token 3, after \"caf\u00e9\\n\"\n"
                              "  this prompt   \" cat\", then \" sat\"\n"
                              "  cached        ends here\n"));
}

TEST(FormatTest, StatsSayWhenTheStoreIsOff) {
  EXPECT_THAT(StatsText({}), HasSubstr("store       off"));
}

TEST(FormatTest, JsonKeepsProtoNamesAndZeros) {
  EXPECT_THAT(ToJson(Generation()), HasSubstr("\"matched_stop_sequence\":\"\""));
}

TEST(FormatTest, TablePadsColumns) {
  EXPECT_EQ(FormatTable({{"a", "bb"}, {"ccc", "d"}}), "a    bb\n---  --\nccc   d\n");
}

}  // namespace
}  // namespace reprise::client
