#include "client/load/trace_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace reprise::client::load {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TraceOptions Options(const std::string& format) {
  TraceOptions options;
  options.format = ParseTraceFormat(format).value();
  options.context_length = 8192;
  options.vocabulary_size = 1000;
  options.name = "t";
  return options;
}

std::vector<Session> All(TraceSource& source) {
  std::vector<Session> sessions;
  while (auto session = source.Next()) sessions.push_back(*std::move(session));
  return sessions;
}

TEST(TraceReaderTest, MooncakeBlocksOfTheSameHashAreTheSameTokens) {
  auto source = ParseTrace(
      R"({"timestamp": 27482, "input_length": 1200, "output_length": 52, "hash_ids": [46, 47, 49]}
{"timestamp": 27000, "input_length": 1100, "output_length": 7, "hash_ids": [46, 47, 48]})",
      Options("mooncake"));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_TRUE((*source)->facts().timed);
  const auto sessions = All(**source);
  ASSERT_EQ(sessions.size(), 2u);
  EXPECT_EQ(sessions[0].start_seconds, 0) << "in the order of their times";
  EXPECT_NEAR(*sessions[1].start_seconds, 0.482, 1e-9);
  const auto &a = sessions[0].turns[0].ids, &b = sessions[1].turns[0].ids;
  EXPECT_EQ(a.size(), 1100u);
  EXPECT_EQ(b.size(), 1200u);
  EXPECT_EQ(sessions[1].turns[0].output_tokens, 52);
  EXPECT_EQ(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin(), 1024);
}

TEST(TraceReaderTest, AzureTimesMayHaveSevenDigitsAndPromptsAreCutToTheWindow) {
  TraceOptions options = Options("azure");
  options.context_length = 1024;
  auto source = ParseTrace(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
      "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,7437,900\r\n",
      options);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->facts().clipped, 1);
  const auto sessions = All(**source);
  EXPECT_NEAR(*sessions[1].start_seconds, 4.314579, 1e-6);
  EXPECT_EQ(sessions[0].turns[0].ids.size(), 374u);
  EXPECT_EQ(sessions[1].turns[0].ids.size() + sessions[1].turns[0].output_tokens, 1024u);
}

TEST(TraceReaderTest, BurstGptRequestsOfOneSessionBeginAlike) {
  auto source = ParseTrace(
      "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log "
      "Type\n5,7,1,ChatGPT,40,10,50,Conversation log\n6,7,1,ChatGPT,60,0,60,Conversation log\n"
      "8,,1,GPT-4,50,5,55,API log\n",
      Options("burstgpt"));
  ASSERT_TRUE(source.ok()) << source.status();
  const auto sessions = All(**source);
  ASSERT_EQ(sessions.size(), 3u);
  const auto &a = sessions[0].turns[0].ids, &b = sessions[1].turns[0].ids;
  EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin()));
  EXPECT_NE(sessions[2].turns[0].ids[0], a[0]);
  EXPECT_EQ(sessions[0].label, "session-7");
  EXPECT_EQ(*sessions[2].start_seconds, 3);
}

TEST(TraceReaderTest, RepliesAreCutOnlyWhereTheWindowOverflows) {
  const std::string text =
      "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,24,1000\n"
      "2023-11-16 18:15:47,25,1000\n";
  TraceOptions options = Options("azure");
  options.context_length = 1024;
  auto source = ParseTrace(text, options);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->facts().clipped, 1);
  const auto sessions = All(**source);
  EXPECT_EQ(sessions[0].turns[0].output_tokens, 1000);
  EXPECT_EQ(sessions[1].turns[0].output_tokens, 256);
  options.max_rows = 1;
  EXPECT_THAT(std::string(ParseTrace(text, options).status().message()),
              HasSubstr(":3: more than the limit of 1 requests"));
}

TEST(TraceReaderTest, LengthsAreScaled) {
  TraceOptions options = Options("azure");
  options.length_scale = 0.125;
  auto source =
      ParseTrace("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,4000,80\n", options);
  ASSERT_TRUE(source.ok()) << source.status();
  const auto sessions = All(**source);
  EXPECT_EQ(sessions[0].turns[0].ids.size(), 500u);
  EXPECT_EQ(sessions[0].turns[0].output_tokens, 10);
}

TEST(TraceReaderTest, ShareGptTurnsEndWhereSomebodyAnswers) {
  const std::string list = R"([
 {"id": "a", "conversations": [{"from": "gpt", "value": "Hello"}, {"from": "human", "value": "one"},
   {"from": "human", "value": "more"}, {"from": "gpt", "value": "12345678"}, {"from": "human", "value": "two"}]},
 {"id": "b", "conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "three"}]}
])";
  auto source = ParseTrace(list, Options("sharegpt"));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_FALSE((*source)->facts().timed);
  EXPECT_EQ((*source)->facts().requests, 3);
  EXPECT_DOUBLE_EQ((*source)->mean_turns(), 1.5);
  const auto sessions = All(**source);
  ASSERT_EQ(sessions[0].turns.size(), 2u);
  EXPECT_EQ(sessions[0].turns[0].messages[0].content, "one\nmore");
  EXPECT_EQ(sessions[0].turns[0].output_tokens, 2) << "four bytes a token";
  EXPECT_EQ(sessions[0].turns[1].output_tokens, 128);
  EXPECT_EQ(sessions[1].turns[0].messages[0].role, Message::Role::kSystem);
}

TEST(TraceReaderTest, MessagesComeInTheFormsThatPeopleKeepThemIn) {
  const char* const line = R"([{"role": "user", "content": "hi"}])";
  for (const std::string& text :
       {absl::StrCat(R"({"messages": )", line, "}"),
        absl::StrCat(R"({"conversation": )", line, "}"),
        absl::StrCat(R"({"custom_id": "1", "body": {"messages": )", line, R"(, "max_tokens": 9}})"),
        std::string(line), absl::StrCat("[{\"messages\":", line, "}]"),
        absl::StrCat("[\n", line, "\n]"),
        std::string(
            R"({"messages": [{"role": "User", "content": [{"type": "text", "text": "hi"}]}]})")}) {
    auto source = ParseTrace(text, Options("messages"));
    ASSERT_TRUE(source.ok()) << source.status() << text;
    const auto sessions = All(**source);
    ASSERT_EQ(sessions.size(), 1u) << text;
    EXPECT_EQ(sessions[0].turns[0].messages[0].content, "hi") << text;
  }
  auto timed = ParseTrace(R"({"timestamp": 9.5, "messages": [{"role": "user", "content": "b"}]}
{"timestamp": 8, "messages": [{"role": "user", "content": "a"}]})",
                          Options("messages"));
  ASSERT_TRUE(timed.ok()) << timed.status();
  const auto sessions = All(**timed);
  EXPECT_EQ(sessions[0].turns[0].messages[0].content, "a");
  EXPECT_EQ(*sessions[1].start_seconds, 1.5);
}

TEST(TraceReaderTest, LongMessagesAreCutAtACharacter) {
  TraceOptions options = Options("messages");
  options.context_length = 64;
  std::string text;
  for (int i = 0; i < 400; ++i) text += "\xC3\xA9";
  auto source =
      ParseTrace(absl::StrCat(R"([{"role": "user", "content": ")", text, "\"}]"), options);
  ASSERT_TRUE(source.ok()) << source.status();
  const auto sessions = All(**source);
  EXPECT_EQ((*source)->facts().clipped, 1);
  EXPECT_LE(sessions[0].turns[0].messages[0].content.size(), 64u * 3);
  EXPECT_EQ(sessions[0].turns[0].messages[0].content.size() % 2, 0u);
}

struct BadCase {
  const char* format;
  const char* text;  // one good line and a bad one
  const char* message;
};

class MalformedTraceTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(MalformedTraceTest, IsNamedAndSkippedOrRefused) {
  TraceOptions options = Options(GetParam().format);
  auto skipped = ParseTrace(GetParam().text, options);
  ASSERT_TRUE(skipped.ok()) << skipped.status();
  EXPECT_EQ((*skipped)->facts().malformed_count, 1);
  EXPECT_THAT((*skipped)->facts().malformed, ElementsAre(HasSubstr(GetParam().message)));
  EXPECT_EQ(All(**skipped).size(), 1u);
  options.refuse_malformed = true;
  const auto refused = ParseTrace(GetParam().text, options);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr(GetParam().message));
}

#define MOONCAKE "{\"timestamp\":0,\"input_length\":5,\"output_length\":5,\"hash_ids\":[1]}\n"
#define AZURE "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n"
#define BURST "Timestamp,Request tokens,Response tokens\n1,10,10\n"
#define MESSAGES "[{\"role\":\"user\",\"content\":\"hi\"}]\n"

INSTANTIATE_TEST_SUITE_P(
    All, MalformedTraceTest,
    ::testing::Values(
        BadCase{"mooncake", MOONCAKE "{\"timestamp\":1,", "t:2: "},
        BadCase{"mooncake",
                MOONCAKE "{\"timestamp\":1,\"input_length\":-3,\"output_length\":1,"
                         "\"hash_ids\":[]}",
                "t:2: input_length: -3"},
        BadCase{"mooncake",
                MOONCAKE "{\"timestamp\":1,\"input_length\":1e30,\"output_length\":1,"
                         "\"hash_ids\":[]}",
                "t:2: "},
        BadCase{"mooncake", MOONCAKE "\n[1]\n", "t:3: "},
        BadCase{"azure", AZURE "yesterday,1,1\n", "t:3: TIMESTAMP: \"yesterday\""},
        BadCase{"azure", AZURE "2023-11-16 18:15:47,1\n", "t:3: 2 fields, the header has 3"},
        BadCase{"azure", AZURE "2023-11-16 18:15:47,0,1\n", "t:3: prompt tokens: 0, must be in"},
        BadCase{"burstgpt", BURST "nan,1,1\n", "t:3: Timestamp"},
        BadCase{"burstgpt", BURST "1,1.5,1\n", "t:3: prompt tokens: \"1.5\""},
        BadCase{"burstgpt", BURST "1,99999999999,1\n", "t:3: prompt tokens: 99999999999"},
        BadCase{"sharegpt",
                "[{\"conversations\":[{\"from\":\"human\",\"value\":\"hi\"}]},\n"
                "{\"conversations\":[{\"from\":\"human\"}]}]",
                "t:2: "},
        BadCase{"messages", MESSAGES "[{\"role\":\"tool\",\"content\":\"x\"}]",
                "t:2: role \"tool\""},
        BadCase{"messages", MESSAGES "[{\"role\":\"user\",\"content\":7}]", "t:2: "},
        BadCase{"messages", MESSAGES "[{\"role\":\"system\",\"content\":\"x\"}]",
                "t:2: nobody asks anything"},
        BadCase{"messages",
                MESSAGES "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
                         "\"max_tokens\":0}",
                "t:2: max_tokens: 0"},
        BadCase{"messages", MESSAGES "no json", "t:2: "}));

TEST(TraceReaderTest, RefusesWhatHoldsNothing) {
  for (const auto& [format, text, message] :
       {std::tuple{"mooncake", "", "no usable request"},
        std::tuple{"mooncake", "junk\n", "no usable request; t:1: "},
        std::tuple{"azure", "", "t:1: no column \"TIMESTAMP\""},
        std::tuple{"burstgpt", "Timestamp,Request tokens\n", "no column \"Response tokens\""},
        std::tuple{"sharegpt", "[{\"conversations\":[", "no usable request"}}) {
    const auto source = ParseTrace(text, Options(format));
    EXPECT_FALSE(source.ok()) << format;
    EXPECT_THAT(std::string(source.status().message()), HasSubstr(message));
  }
  EXPECT_TRUE(absl::IsNotFound(ReadTrace("/nonexistent/trace", Options("azure")).status()));
  EXPECT_FALSE(ParseTraceFormat("csv").ok());
}

TEST(TraceReaderTest, ReadsTheSamples) {
  for (const auto& [format, file] :
       {std::pair{"mooncake", "mooncake.jsonl"}, std::pair{"azure", "azure.csv"},
        std::pair{"burstgpt", "burstgpt.csv"}, std::pair{"sharegpt", "sharegpt.json"},
        std::pair{"messages", "messages.jsonl"}}) {
    TraceOptions options = Options(format);
    options.refuse_malformed = true;
    const auto source = ReadTrace(absl::StrCat("tests/data/traces/", file), options);
    ASSERT_TRUE(source.ok()) << source.status();
    EXPECT_GE((*source)->facts().requests, 6);
  }
}

}  // namespace
}  // namespace reprise::client::load
