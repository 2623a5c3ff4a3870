#include "client/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/paper/paper_record.h"

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

TEST(CsvTest, ReadsBackWhatItWrites) {
  const std::vector<std::string> fields = {"plain", "a, b", "say \"so\"", "two\nlines", ""};
  const std::string text = CsvLine({"a", "b", "c", "d", "e"}) + CsvLine(fields);
  for (size_t i = 0; i < fields.size(); ++i) {
    const auto values = ParseCsvColumn(text, std::string(1, static_cast<char>('a' + i)), "t.csv");
    ASSERT_TRUE(values.ok()) << values.status();
    EXPECT_THAT(*values, ElementsAre(fields[i]));
  }
}

TEST(CsvTest, KeepsARowOfTheExperimentInItsColumns) {
  PaperRow row;
  row.arm = "P0";
  row.label = "Who, \"exactly\"?";
  row.output = {5, 6};
  row.similarity = OutputSimilarity{0.25, 0.5, 0.75};
  row.fed = "13@4";
  const std::string text = PaperCsvHeader() + ToCsv(row) + ToCsv(PaperRow());
  const std::pair<const char*, const char*> wanted[] = {{"arm", "P0"},
                                                        {"text", "Who, \"exactly\"?"},
                                                        {"prompt_similarity", ""},
                                                        {"similarity_new", "0.25"},
                                                        {"similarity_as_published", "0.75"},
                                                        {"fed", "13@4"},
                                                        {"output", "5 6"},
                                                        {"client_ms", "0"}};
  for (const auto& [column, value] : wanted) {
    const auto values = ParseCsvColumn(text, column, "t.csv");
    ASSERT_TRUE(values.ok()) << values.status();
    EXPECT_EQ(values->front(), value) << column;
  }
  EXPECT_THAT(*ParseCsvColumn(text, "similarity_new", "t.csv"), ElementsAre("0.25", ""));
}

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
  const auto unrelated = ReadCsvColumn("tests/data/paper/unrelated_prompts.csv", "text");
  ASSERT_TRUE(unrelated.ok());
  EXPECT_EQ(unrelated->size(), 4u);
  for (const std::string& prompt : *unrelated) {
    for (const std::string& other : *cache) EXPECT_NE(prompt[0], other[0]) << prompt;
  }
}

}  // namespace
}  // namespace reprise::client
