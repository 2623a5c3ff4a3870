#include "core/telemetry/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "core/base/json.h"
#include "tests/unit/telemetry/exposition.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

class LogTest : public ::testing::Test {
 protected:
  LogTest() : path_(::testing::TempDir() + "/log-" + std::to_string(getpid())) {}
  ~LogTest() override { std::filesystem::remove_all(path_); }

  std::unique_ptr<Logger> Open(LogOptions options = {}) {
    if (options.file.empty()) options.file = path_;
    auto logger = Logger::Create(options, &metrics_);
    EXPECT_TRUE(logger.ok()) << logger.status();
    return *std::move(logger);
  }

  std::vector<std::string> Lines() {
    std::ifstream file(path_, std::ios::binary);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    EXPECT_TRUE(text.empty() || text.back() == '\n');
    return absl::StrSplit(text, '\n', absl::SkipEmpty());
  }

  double Dropped() { return SumOf(metrics_, "reprise_log_lines_dropped_total"); }

  const std::string path_;
  Metrics metrics_;
};

JsonValue Parsed(const std::string& line) {
  auto json = JsonValue::Parse(line);
  EXPECT_TRUE(json.ok()) << json.status() << ": " << line;
  return *std::move(json);
}

std::string StringAt(const JsonValue& json, const char* key) { return *json.Get(key)->AsString(); }

TEST_F(LogTest, JsonLinesParseBack) {
  Open()->Write(LogLevel::kWarning, "event",
                {{"text", "x"},
                 {"integer", INT64_MIN},
                 {"flag", true},
                 {"number", 0.1},
                 {"infinite", std::numeric_limits<double>::infinity()}});
  ASSERT_EQ(Lines().size(), 1u);
  const JsonValue line = Parsed(Lines()[0]);
  EXPECT_EQ(StringAt(line, "level"), "warning");
  EXPECT_EQ(StringAt(line, "event"), "event");
  EXPECT_EQ(StringAt(line, "text"), "x");
  EXPECT_EQ(*line.Get("integer")->AsInt(), INT64_MIN);
  EXPECT_TRUE(*line.Get("flag")->AsBool());
  EXPECT_NEAR(*line.Get("number")->AsDouble(), 0.1, 1e-9);
  EXPECT_EQ(line.Get("infinite")->kind(), JsonValue::Kind::kNull);
  absl::Time time;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, StringAt(line, "time"), &time, nullptr));
}

const std::pair<std::string, std::string> kHostile[] = {
    {"quote \" and \\ backslash", "quote \" and \\ backslash"},
    {"a\n{\"event\":\"forged\"}\r\n", "a\n{\"event\":\"forged\"}\r\n"},
    {std::string("nul\0tab\t\x1b[31m\x7f", 14), std::string("nul\0tab\t\x1b[31m\x7f", 14)},
    {"é漢😀", "é漢😀"},
    {"\xff", "\uFFFD"},
    {"cut \xe2\x82", "cut \uFFFD\uFFFD"},
    {"overlong \xc0\xaf \xe0\x80\xaf", "overlong \uFFFD\uFFFD \uFFFD\uFFFD\uFFFD"},
    {"surrogate \xed\xa0\x80", "surrogate \uFFFD\uFFFD\uFFFD"},
    {"past \xf4\x90\x80\x80", "past \uFFFD\uFFFD\uFFFD\uFFFD"},
    {"\xe2\"", "\uFFFD\""},
};

TEST_F(LogTest, HostileStringsCannotForgeAJsonLine) {
  {
    const auto logger = Open();
    for (const auto& [text, shown] : kHostile) logger->Info(text, {{"value", text}, {text, "key"}});
  }
  const std::vector<std::string> lines = Lines();
  ASSERT_EQ(lines.size(), std::size(kHostile));
  for (size_t i = 0; i < lines.size(); ++i) {
    const JsonValue line = Parsed(lines[i]);
    EXPECT_EQ(StringAt(line, "event"), kHostile[i].second);
    EXPECT_EQ(StringAt(line, "value"), kHostile[i].second);
    EXPECT_EQ(line.size(), 5u);
  }
}

TEST_F(LogTest, HostileStringsCannotForgeATextLine) {
  {
    LogOptions options;
    options.json = false;
    const auto logger = Open(options);
    for (const auto& [text, shown] : kHostile)
      logger->Error("failed", {{"value", text}, {"n", int64_t{3}}});
  }
  const std::vector<std::string> lines = Lines();
  ASSERT_EQ(lines.size(), std::size(kHostile));
  for (size_t i = 0; i < lines.size(); ++i) {
    const size_t at = lines[i].find(" error failed value=");
    ASSERT_NE(at, std::string::npos) << lines[i];
    EXPECT_TRUE(absl::EndsWith(lines[i], " n=3"));
    const std::string quoted = lines[i].substr(at + 20, lines[i].size() - at - 24);
    EXPECT_EQ(*Parsed(quoted).AsString(), kHostile[i].second);
  }
}

TEST_F(LogTest, LevelsBelowTheLeastAreLeftOut) {
  {
    LogOptions options;
    options.level = LogLevel::kWarning;
    const auto logger = Open(options);
    logger->Write(LogLevel::kDebug, "debug", {});
    logger->Info("info");
    logger->Warning("warning");
    logger->Error("error");
  }
  ASSERT_EQ(Lines().size(), 2u);
  EXPECT_EQ(StringAt(Parsed(Lines()[0]), "event"), "warning");
  EXPECT_EQ(StringAt(Parsed(Lines()[1]), "level"), "error");
  EXPECT_EQ(Dropped(), 0);
}

TEST_F(LogTest, AppendsToAFileAndMakesItsFolders) {
  LogOptions options;
  options.file = path_ + "/a/b/log";
  Open(options)->Info("first");
  Open(options)->Info("second");
  std::ifstream file(options.file);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(text, ::testing::ContainsRegex("first.*\n.*second"));
}

TEST_F(LogTest, RefusesAFileThatCannotBeOpenedAndNamesIt) {
  std::filesystem::create_directory(path_);
  LogOptions options;
  options.file = path_;
  const auto logger = Logger::Create(options, &metrics_);
  EXPECT_EQ(logger.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(logger.status().message()), HasSubstr(path_));
}

TEST_F(LogTest, AFullDiskLosesLinesAndCountsThem) {
  LogOptions options;
  options.file = "/dev/full";
  const auto logger = Open(options);
  for (int i = 0; i < 500; ++i) logger->Info("lost");
  const_cast<std::unique_ptr<Logger>&>(logger).reset();
  EXPECT_EQ(Dropped(), 500);
}

constexpr int kManyLines = 20000;

void WriteMany(Logger& logger) {
  const std::string text(500, 'x');
  for (int i = 0; i < kManyLines; ++i) logger.Info("many", {{"text", text}});
}

TEST_F(LogTest, AFifoWithoutAReaderHoldsUpNobody) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  WriteMany(*Open());
  EXPECT_GT(Dropped(), 0);
}

TEST_F(LogTest, AFifoNobodyReadsHoldsUpNobodyAndEveryLineIsAccountedFor) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  const int reader = open(path_.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  WriteMany(*Open());
  std::string text(1 << 20, '\0');
  const ssize_t size = read(reader, text.data(), text.size());
  close(reader);
  ASSERT_GT(size, 0);
  text.resize(static_cast<size_t>(size));
  const auto written = std::count(text.begin(), text.end(), '\n');
  EXPECT_GT(written, 0);
  EXPECT_EQ(static_cast<double>(written) + Dropped(), kManyLines);
}

TEST_F(LogTest, TheRequestLineHasTheseFieldsAndNoPromptText) {
  Open()->Request(FullSummary());
  ASSERT_EQ(Lines().size(), 1u);
  const std::vector<std::string> keys = *Parsed(Lines()[0]).Keys();
  EXPECT_EQ(std::set<std::string>(keys.begin(), keys.end()),
            (std::set<std::string>{"time",
                                   "level",
                                   "event",
                                   "request_id",
                                   "method",
                                   "tenant",
                                   "code",
                                   "finish_reason",
                                   "prompt_tokens",
                                   "cached_tokens",
                                   "computed_tokens",
                                   "output_tokens",
                                   "draft_tokens",
                                   "accepted_tokens",
                                   "ideal_tokens",
                                   "device_tokens",
                                   "host_tokens",
                                   "disk_tokens",
                                   "in_flight_tokens",
                                   "split_tokens",
                                   "disk_bytes_read",
                                   "retrieval_mode",
                                   "decision",
                                   "reason",
                                   "miss_reason",
                                   "candidate_status",
                                   "candidate_id",
                                   "candidate_similarity",
                                   "candidate_common_tokens",
                                   "numerics_id",
                                   "exact",
                                   "queue_seconds",
                                   "tokenize_seconds",
                                   "lookup_seconds",
                                   "shared_wait_seconds",
                                   "load_seconds",
                                   "prefill_seconds",
                                   "time_to_first_token_seconds",
                                   "decode_seconds",
                                   "total_seconds",
                                   "predicted_load_seconds",
                                   "predicted_prefill_seconds",
                                   "predicted_cold_prefill_seconds",
                                   "predicted_total_seconds",
                                   "actual_load_seconds",
                                   "entry_age_seconds",
                                   "regret_seconds"}));
}

TEST_F(LogTest, CountersEqualTheSumsOverTheRequestLines) {
  constexpr int kRequests = 200;
  std::mt19937 random(3);
  {
    const auto logger = Open();
    for (int i = 0; i < kRequests; ++i) {
      RequestSummary s = FullSummary();
      for (int32_t* count :
           {&s.prompt_tokens, &s.computed_tokens, &s.output_tokens, &s.draft_tokens,
            &s.accepted_tokens, &s.ideal_tokens, &s.device_tokens, &s.host_tokens, &s.disk_tokens,
            &s.in_flight_tokens, &s.split_tokens}) {
        *count = static_cast<int32_t>(random() % 5000);
      }
      s.disk_bytes_read = random();
      s.queue = absl::Microseconds(random() % 100000);
      s.total = absl::Microseconds(random() % 100000);
      s.regret = absl::Microseconds(random() % 100000);
      metrics_.RequestFinished(s);
      logger->Request(s);
    }
  }
  std::map<std::string, double> sums;
  for (const std::string& line : Lines()) {
    const JsonValue json = Parsed(line);
    const std::vector<std::string> keys = *json.Keys();
    for (const std::string& key : keys) {
      const JsonValue value = *json.Get(key);
      if (value.kind() == JsonValue::Kind::kNumber) sums[key] += *value.AsDouble();
    }
  }
  EXPECT_EQ(Lines().size(), SumOf(metrics_, "reprise_requests_total"));
  const std::pair<const char*, const char*> pairs[] = {
      {"prompt_tokens", "reprise_prompt_tokens_total"},
      {"computed_tokens", "reprise_computed_prompt_tokens_total"},
      {"output_tokens", "reprise_output_tokens_total"},
      {"draft_tokens", "reprise_speculation_draft_tokens_total"},
      {"accepted_tokens", "reprise_speculation_accepted_tokens_total"},
      {"in_flight_tokens", "reprise_in_flight_prompt_tokens_total"},
      {"split_tokens", "reprise_split_prompt_tokens_total"},
      {"ideal_tokens", "reprise_ideal_prompt_tokens_total"},
      {"disk_bytes_read", "reprise_request_disk_read_bytes_total"},
      {"queue_seconds", "reprise_queue_seconds_sum"},
      {"total_seconds", "reprise_request_seconds_sum"},
      {"regret_seconds", "reprise_regret_seconds_total"},
  };
  for (const auto& [key, metric] : pairs) {
    EXPECT_GT(sums[key], 0) << key;
    EXPECT_NEAR(sums[key] / SumOf(metrics_, metric), 1, 1e-6) << key;
  }
  EXPECT_EQ(sums["device_tokens"] + sums["host_tokens"] + sums["disk_tokens"],
            SumOf(metrics_, "reprise_cached_prompt_tokens_total"));
}

}  // namespace
}  // namespace reprise
