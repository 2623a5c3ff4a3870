#include "client/generation_options.h"

#include <gtest/gtest.h>

namespace reprise::client {
namespace {

inference::v1::GenerationSpec Parse(const std::string& arguments) {
  CLI::App app;
  GenerationOptions options;
  options.AddTo(app);
  app.parse(arguments);
  return options.ToSpec();
}

TEST(GenerationOptionsTest, SpeculationIsTheServersUnlessAsked) {
  const auto silent = Parse("").speculation();
  EXPECT_EQ(silent.mode(), inference::v1::SPECULATION_MODE_UNSPECIFIED);
  EXPECT_FALSE(silent.has_max_draft_tokens() || silent.has_min_ngram() || silent.has_max_ngram());
  EXPECT_EQ(Parse("--speculation off").speculation().mode(), inference::v1::SPECULATION_MODE_OFF);
  const auto asked =
      Parse("--speculation prompt_lookup --max-draft-tokens 5 --min-ngram 1 --max-ngram 3")
          .speculation();
  EXPECT_EQ(asked.mode(), inference::v1::SPECULATION_MODE_PROMPT_LOOKUP);
  EXPECT_EQ(asked.max_draft_tokens(), 5);
  EXPECT_EQ(asked.min_ngram(), 1);
  EXPECT_EQ(asked.max_ngram(), 3);
  EXPECT_THROW(Parse("--speculation on"), CLI::ParseError);
}

}  // namespace
}  // namespace reprise::client
