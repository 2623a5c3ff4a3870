// The paper's experiment against a whole server over a scripted model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "client/paper/paper_run.h"
#include "tests/integration/test_server.h"

namespace reprise {
namespace {

using client::PaperRow;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TestServerOptions Options() {
  TestServerOptions options;
  options.context_length = 8192;  // more than memory holds
  options.engine.write_selectively = false;
  return options;
}

class PaperTest : public testing::Test {
 protected:
  PaperTest() : server_(Options()) {
    client::ClientOptions options;
    options.address = absl::StrCat("127.0.0.1:", server_.grpc().inference_port());
    options.admin_address = absl::StrCat("127.0.0.1:", server_.grpc().admin_port());
    client_ = std::make_unique<client::Client>(options);
    options_.repeats = options_.depth_repeats = 1;
    options_.output_tokens = 4;
    options_.equal_tokens = 3;
    options_.generated = 12;
    options_.generated_tokens = 2;
    options_.concurrency = 3;
  }

  static std::vector<PaperRow> Select(const std::vector<PaperRow>& rows, const std::string& set,
                                      const std::string& arm) {
    std::vector<PaperRow> selected;
    for (const PaperRow& row : rows) {
      if (row.set == set && row.arm == arm) selected.push_back(row);
    }
    return selected;
  }

  TestServer server_;
  std::unique_ptr<client::Client> client_;
  client::PaperOptions options_;
};

TEST_F(PaperTest, AsksEveryPromptInEveryArmAndReusesOnlyWhatIsCached) {
  const auto report = client::RunPaper(*client_, options_);
  ASSERT_TRUE(report.ok()) << report.status();
  const auto& rows = report->rows;
  EXPECT_THAT(client::PaperFailures(rows), IsEmpty());
  for (const char* arm : {"B", "P1", "P2"}) {
    EXPECT_EQ(Select(rows, "paper", arm).size(), 12u) << "6 prompts, replies that end in two ways";
    EXPECT_EQ(Select(rows, "unrelated", arm).size(), 4u) << "where replies are of equal length";
    EXPECT_EQ(Select(rows, "depth", arm).size(), 6u);
    for (const PaperRow& row : Select(rows, "unrelated", arm)) EXPECT_EQ(row.reused_tokens, 0);
  }
  for (const PaperRow& row : Select(rows, "paper", "B")) EXPECT_EQ(row.reused_tokens, 0);
  for (const PaperRow& row : Select(rows, "paper", "P1")) {
    EXPECT_EQ(row.reused_tokens, row.common_tokens) << "not more: its own reply is cached no more";
    EXPECT_EQ(row.disk_tokens, 0) << row.label;
  }
  int loaded = 0;
  for (const PaperRow& row : Select(rows, "paper", "P2")) {
    EXPECT_TRUE(row.prompt_similarity.has_value());
    loaded += row.disk_tokens > 0 ? 1 : 0;
  }
  EXPECT_GT(loaded, 0);
  EXPECT_EQ(Select(rows, "generated", "B").size(), 12u);
  EXPECT_EQ(Select(rows, "generated", "P1").size(), 12u);
  EXPECT_THAT(client::PaperText(rows), HasSubstr("12/12"));
}

TEST_F(PaperTest, LeavesACacheAloneUnlessToldToPurge) {
  ASSERT_TRUE(client_->Generate(TextSpec("something of somebody's", 2)).ok());
  server_.Settle();
  options_.repeats = options_.depth_repeats = 0;
  const auto refused = client::RunPaper(*client_, options_);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--purge"));
  options_.purge = true;
  EXPECT_TRUE(client::RunPaper(*client_, options_).ok());
}

TEST(PaperOnALargeMemoryTest, SaysHowMuchMemoryMayHold) {
  TestServerOptions server_options = Options();
  server_options.context_length = 1024;
  TestServer server(server_options);
  client::ClientOptions options;
  options.address = absl::StrCat("127.0.0.1:", server.grpc().inference_port());
  options.admin_address = absl::StrCat("127.0.0.1:", server.grpc().admin_port());
  client::Client client(options);
  const auto report = client::RunPaper(client, {.repeats = 1, .output_tokens = 1});
  EXPECT_EQ(report.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("cache.host_bytes: room for 4079"));
}

// Judging of rows and prompts without a server.

PaperRow Row(const std::string& arm, client::Ids output) {
  PaperRow row;
  row.set = "paper";
  row.arm = arm;
  row.ends = "eos";
  row.prompt_tokens = 12;
  row.common_tokens = 7;
  row.reused_tokens = arm == "B" ? 0 : 7;
  row.disk_tokens = arm == "P2" ? 7 : 0;
  row.output = std::move(output);
  return row;
}

TEST(PaperFailuresTest, NamesWhatDoesNotHold) {
  EXPECT_THAT(client::PaperFailures({Row("B", {1}), Row("P1", {1}), Row("P2", {1})}), IsEmpty());
  EXPECT_THAT(client::PaperFailures({}), ElementsAre(HasSubstr("no request")));
  EXPECT_THAT(client::PaperFailures({Row("B", {1}), Row("P1", {2})}),
              ElementsAre(HasSubstr("not the cold one")));
  EXPECT_THAT(client::PaperFailures({Row("B", {1}), Row("B", {1, 2})}),
              ElementsAre(HasSubstr("not the cold one")));
  PaperRow shallow = Row("P1", {1}), from_memory = Row("P2", {1});
  shallow.reused_tokens = 6;
  from_memory.disk_tokens = 0;
  EXPECT_THAT(client::PaperFailures({Row("B", {1}), shallow, from_memory}),
              ElementsAre(HasSubstr("6 of 7 tokens reused"), HasSubstr("came from the store")));
}

TEST(PaperPromptsTest, AreTheSameForASeedAndExtendACachedOne) {
  const client::PromptTexts texts = client::GenerateTexts(7, 1000);
  EXPECT_EQ(client::GenerateTexts(7, 1000).tests, texts.tests);
  EXPECT_NE(client::GenerateTexts(8, 1000).tests, texts.tests);
  EXPECT_EQ(texts.cached.size(), 200u);
  EXPECT_EQ(std::set<std::string>(texts.cached.begin(), texts.cached.end()).size(), 200u);
  EXPECT_EQ(std::set<std::string>(texts.tests.begin(), texts.tests.end()).size(), 1000u);
  for (size_t i = 0; i < texts.tests.size(); ++i) {
    EXPECT_THAT(texts.tests[i], ::testing::StartsWith(texts.cached[i / 5] + " "));
  }
  EXPECT_EQ(client::GenerateTexts(7, 5000).cached.size(), 1000u);
}

TEST(PaperPromptsTest, PairWithTheCachedPromptThatSharesMost) {
  const auto prompt = [](client::Ids ids) {
    client::PaperPrompt made;
    made.ids = std::move(ids);
    return made;
  };
  client::PaperSet set;
  set.cached = {prompt({1, 2}), prompt({1, 2, 3}), prompt({1, 2, 4})};
  set.tests = {prompt({1, 2, 3, 9}), prompt({1, 2, 5}), prompt({8, 1, 2}), prompt({1, 2, 4})};
  client::PairWithCached(set);
  std::vector<std::pair<int, int>> pairs;
  for (const auto& test : set.tests) pairs.emplace_back(test.source, test.common_tokens);
  EXPECT_THAT(pairs,
              ElementsAre(std::pair(1, 3), std::pair(0, 2), std::pair(-1, 0), std::pair(2, 3)));
}

}  // namespace
}  // namespace reprise
