#include "client/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CsvTest, ReadsTheNamedColumn) {
  const auto values = ParseCsvColumn("id,text\n1,one\n2,two\n", "text", "t.csv");
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_THAT(*values, ElementsAre("one", "two"));
}

TEST(CsvTest, KeepsQuotedCommasQuotesAndLineBreaks) {
  const auto values = ParseCsvColumn("text\r\n\"a, \"\"b\"\"\nc\"\r\nplain\r\n", "text", "t.csv");
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_THAT(*values, ElementsAre("a, \"b\"\nc", "plain"));
}

TEST(CsvTest, AcceptsAMissingLastLineBreak) {
  const auto values = ParseCsvColumn("text\nlast", "text", "t.csv");
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_THAT(*values, ElementsAre("last"));
}

struct BadCase {
  const char* name;
  const char* text;
  const char* message;
};

class BadCsvTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadCsvTest, NamesFileLineAndProblem) {
  const auto values = ParseCsvColumn(GetParam().text, "text", "t.csv");
  ASSERT_FALSE(values.ok());
  EXPECT_EQ(values.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(values.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadCsvTest,
    ::testing::Values(
        BadCase{"NoColumn", "prompt\nx\n", "t.csv:1: no column \"text\""},
        BadCase{"Empty", "", "t.csv:1: no column \"text\""},
        BadCase{"OpenQuote", "text\n\"abc", "t.csv:2: a quoted field is never closed"},
        BadCase{"Width", "text\na,b\n", "t.csv:2: 2 fields, the header has 1"},
        BadCase{"AfterQuote", "text\n\"a\"b\n", "t.csv:2: text after a closing quote"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(CsvTest, ReportsAMissingFile) {
  EXPECT_EQ(ReadCsvColumn("/nonexistent/x.csv", "text").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(CsvTest, ReadsThePromptsOfThePaper) {
  const auto cache = ReadCsvColumn("tests/data/paper/cache_prompts.csv", "text");
  const auto test = ReadCsvColumn("tests/data/paper/test_prompts.csv", "text");
  ASSERT_TRUE(cache.ok() && test.ok());
  EXPECT_EQ(cache->size(), 10u);
  ASSERT_EQ(test->size(), 6u);
  for (const std::string& prompt : *test) {
    const bool extends = std::any_of(cache->begin(), cache->end(), [&](const std::string& prefix) {
      return prompt.compare(0, prefix.size(), prefix) == 0;
    });
    EXPECT_TRUE(extends) << prompt;
  }
}

}  // namespace
}  // namespace reprise::client
