#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/report/charts.h"
#include "client/report/compare.h"
#include "client/report/html_report.h"
#include "core/base/json.h"

namespace reprise::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kHostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>";

std::string RunJson(const std::string& name, int seed, double p50) {
  return absl::StrCat(R"({"format_version": 1, "workload": {"kind": "profile", "name": ")", name,
                      R"("}, "options": {"workload_seed": )", seed, R"(, "rate_per_second": )", p50,
                      R"(}, "summary": {"rates": {"hit_ratio": 0.25, "output_tokens_per_second": )",
                      1000 / p50,
                      R"(}, "totals": {"host_token_count": 30, "computed_token_count": 90},
          "errors": {")",
                      name, R"(": 3}, "latency": {"client_ttft": {"formula": "first_token - sent",
          "all": {"count": 2, "p50": )",
                      p50, R"(, "p99": 9}}},
          "slo": [{"expression": "ttft_p99=5ms", "measured": 9, "limit": 5, "unit": "ms",
          "relation": "<=", "met": false}], "timeline": [{"second": 0, "completed_count": 2}]}})");
}

std::string Request(int index, double ttft, int cached) {
  return absl::StrCat(R"({"index": )", index, R"(, "session": )", index,
                      R"(, "turn": 0, "code": "OK", "client_ttft_ms": )", ttft,
                      R"(, "cached_token_count": )", cached, R"(, "server_prefill_ms": 2,
                      "predicted_cold_prefill_ms": 12, "predicted_total_ms": 3})");
}

absl::StatusOr<LoadRun> Parse(const std::string& run, const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) {
    absl::StrAppend(&text, absl::StrReplaceAll(line, {{"\n", " "}}), "\n");
  }
  std::istringstream requests(text);
  return ParseRun("run", run, requests);
}

LoadRun MakeRun(double p50, const std::vector<std::string>& lines, int seed = 1) {
  auto run = Parse(RunJson("chat", seed, p50), lines);
  EXPECT_TRUE(run.ok()) << run.status();
  return *std::move(run);
}

TEST(RunFilesTest, ReadsWhatARequestCameToAndLeavesOutTheRest) {
  const LoadRun run = MakeRun(1, {Request(7, 1.5, 3), R"({"index": 8, "code": "CANCELLED",
      "client_ttft_ms": null, "inter_chunk_ms": [1, 2.5], "a key of tomorrow": {}})"});
  ASSERT_EQ(run.requests.size(), 2u);
  EXPECT_EQ(run.requests[0].index, 7);
  EXPECT_EQ(run.requests[0].client_ttft_ms, 1.5);
  EXPECT_TRUE(run.requests[0].warm());
  EXPECT_FALSE(run.requests[1].client_ttft_ms.has_value());
  EXPECT_FALSE(run.requests[1].cold()) << "it did not complete";
  EXPECT_THAT(run.requests[1].inter_chunk_ms, ElementsAre(1, 2.5));
}

TEST(RunFilesTest, NamesFileLineAndFieldOfWhatIsWrong) {
  const std::string good = RunJson("chat", 1, 2);
  const struct {
    std::string run, line;
    const char* error;
  } cases[] = {{"[]", "{}", "run/run.json: not a JSON object"},
               {"{}", "{}", "format_version is 0, this program reads 1"},
               {R"({"format_version": 2, "summary": {}})", "{}", "format_version is 2"},
               {R"({"format_version": 1})", "{}", "no summary"},
               {good, "{}\n{", "run/requests.jsonl:2"},
               {good, "[]", "run/requests.jsonl:1: not a JSON object"},
               {good, R"({"client_ttft_ms": "1"})", "client_ttft_ms"},
               {good, R"({"cached_token_count": -1})", "cached_token_count: -1, at least 0"},
               {good, R"({"inter_chunk_ms": [1, "x"]})", "inter_chunk_ms[1]"}};
  for (const auto& [run, line, error] : cases) {
    std::istringstream requests(line);
    EXPECT_THAT(ParseRun("run", run, requests).status().message(), HasSubstr(error)) << line;
  }
}

TEST(ReportTest, HostileNamesAreTextAndNeverMarkup) {
  auto run = Parse(RunJson(kHostile, 1, 2),
                   {absl::StrCat(R"({"index": 1, "code": "OK", "client_ttft_ms": 1, "label": ")",
                                 kHostile, R"(", "request_id": ")", kHostile, R"("})")});
  ASSERT_TRUE(run.ok()) << run.status();
  for (const std::string& page : {RenderReport(*run), RenderComparison(*run, *run)}) {
    EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
    EXPECT_THAT(page, Not(HasSubstr("<img")));
    EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(1)"));
    EXPECT_THAT(page, HasSubstr("script-src 'sha256-"));
  }
}

TEST(ReportTest, ShowsFormulasObjectivesAndNumbersAndLoadsNothing) {
  const std::string page = RenderReport(MakeRun(2, {Request(1, 1.5, 30), Request(2, 4, 0)}));
  for (const char* part : {"first_token - sent", "ttft_p99=5ms", "class=\"bad\">missed", "25 %",
                           "data-chart=\"client_ttft\"", "data-chart=\"depth\"", "MIT License"}) {
    EXPECT_THAT(page, HasSubstr(part));
  }
  for (const char* part : {" src=", "<link rel=\"stylesheet\"", "@import", "url("}) {
    EXPECT_THAT(page, Not(HasSubstr(part)));
  }
}

TEST(ReportTest, SaysWhereARunHasNothingToDraw) {
  const std::string page = RenderReport(MakeRun(2, {}));
  EXPECT_THAT(page, HasSubstr("This run has no such requests."));
  EXPECT_THAT(page, Not(HasSubstr("data-chart=\"client_ttft\"")));
}

TEST(HtmlTest, EscapesTextAndTextThatTurnsOtherText) {
  EXPECT_EQ(EscapeHtml("<a b='c' d=\"e\">&\x01"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp; ");
  EXPECT_EQ(EscapeHtml("a\u202Eb\u2066c\u2069é"), "a\uFFFDb\uFFFDc\uFFFDé");
}

TEST(HtmlTest, NumbersHaveThreeDigits) {
  const std::pair<double, const char*> cases[] = {
      {0, "0"},        {14, "14"},     {0.1234, "0.123"},        {9.999, "10.00"},
      {12.34, "12.3"}, {99.96, "100"}, {-1234567, "−1,234,567"}, {1000, "1,000"},
      {NAN, "–"},      {1e300, "–"}};
  for (const auto& [value, text] : cases) EXPECT_EQ(Digits(value), text) << value;
}

double SumOf(const JsonValue& list, size_t stride) {
  double sum = 0;
  for (size_t i = 0; i < list.size(); i += stride) sum += *list.At(i)->AsDouble();
  return sum;
}

TEST(ChartsTest, BinsOfADistributionHoldAllOfIt) {
  const std::vector<double> values{0, 1, 1, 2, 30, 1e300};
  const auto chart =
      JsonValue::Parse(DistributionChart({}, {{"cold", "cold", values}, {"warm", "warm", {}}}));
  ASSERT_TRUE(chart.ok()) << chart.status();
  const JsonValue series = *chart->Get("series");
  ASSERT_EQ(series.size(), 1u) << "warm has no values";
  EXPECT_NEAR(SumOf(*series.At(0)->Get("hist"), 20), 1, 1e-4);
  const JsonValue below = *series.At(0)->Get("ecdf");
  EXPECT_EQ(*below.At(below.size() - 1)->AsDouble(), 1);
  EXPECT_EQ(DistributionChart({}, {{"warm", "warm", {}}}), "");
}

TEST(ChartsTest, ScatterLeavesOutEvenlyWhatIsTooMuchAndWhatCannotBeDrawn) {
  Points points{"p", "warm", {}, {}};
  for (size_t i = 0; i < 3 * kMaxPoints; ++i) {
    points.x.push_back(static_cast<double>(i));
    points.y.push_back(1);
  }
  points.y[0] = NAN;
  points.y[1] = -1;
  Labels labels;
  labels.log = true;
  const auto chart = JsonValue::Parse(ScatterChart(labels, {points}));
  ASSERT_TRUE(chart.ok());
  const JsonValue x = *chart->Get("series")->At(0)->Get("x");
  EXPECT_LE(x.size(), kMaxPoints);
  EXPECT_GT(x.size(), kMaxPoints / 2);
  EXPECT_EQ(*x.At(0)->AsDouble(), 2);
  EXPECT_EQ(ScatterChart(labels, {{"p", "warm", {0}, {1}}}), "");
}

TEST(ChartsTest, MediansFollowTheOrderOfX) {
  Points points{"p", "warm", {}, {}};
  for (const int x : {9, 1, 5, 2, 8, 3, 7, 4, 6, 10}) {
    points.x.push_back(x);
    points.y.push_back(10 * x);
  }
  const Points line = MedianLine(points, 2);
  EXPECT_THAT(line.x, ElementsAre(3, 8));
  EXPECT_THAT(line.y, ElementsAre(30, 80));
}

std::string TurnOf(int session, int turn, int index, double ttft) {
  return absl::StrReplaceAll(
      Request(index, ttft, 0),
      {{absl::StrCat(R"("session": )", index), absl::StrCat(R"("session": )", session)},
       {R"("turn": 0)", absl::StrCat(R"("turn": )", turn)}});
}

TEST(CompareTest, PairsTheSameTurnOfASessionInWhateverOrderItWasSent) {
  // A slow server has the first turns sent before any second one; a fast one does not.
  const PairedTtft paired = PairRequests(MakeRun(4, {TurnOf(0, 0, 0, 10), TurnOf(1, 0, 1, 20),
                                                     TurnOf(0, 1, 2, 30), TurnOf(1, 1, 3, 40)}),
                                         MakeRun(4, {TurnOf(0, 0, 0, 11), TurnOf(0, 1, 1, 31),
                                                     TurnOf(1, 0, 2, 21), TurnOf(1, 1, 3, 41)}));
  EXPECT_THAT(paired.a_ms, ElementsAre(10, 30, 20, 40));
  EXPECT_THAT(paired.b_ms, ElementsAre(11, 31, 21, 41));
}

TEST(CompareTest, PairsWhatCompletedInBoth) {
  std::vector<std::string> in_a, in_b;
  for (int i = 0; i < 100; ++i) in_a.push_back(Request(i, 10 + i, 0));
  for (int i = 99; i >= 2; --i) in_b.push_back(Request(i, i < 52 ? 8 + i : 12 + i, 0));
  in_b.push_back(R"({"index": 1, "code": "CANCELLED"})");
  const PairedTtft paired = PairRequests(MakeRun(4, in_a), MakeRun(2, in_b));
  ASSERT_EQ(paired.why_none, "");
  EXPECT_EQ(paired.a_ms.size(), 98u);
  EXPECT_NEAR(paired.faster_share, 50.0 / 98, 1e-9);
  EXPECT_EQ(paired.median_difference_ms, -2);
  EXPECT_EQ(paired.interval_ms, std::pair(-2.0, 2.0));
}

TEST(CompareTest, TheIntervalHoldsTheMedianIn95PercentAndIsNoneForFewPairs) {
  const std::pair<size_t, size_t> ranks[] = {{0, 0}, {1, 0},  {5, 0},   {6, 1},    {8, 1},
                                             {9, 2}, {20, 6}, {50, 18}, {100, 40}, {100000, 49690}};
  for (const auto& [pairs, rank] : ranks) EXPECT_EQ(SignTestRank(pairs), rank) << pairs;
  std::vector<std::string> in_a, in_b;
  for (int i = 1; i <= 5; ++i) {
    in_a.push_back(Request(i, 10, 0));
    in_b.push_back(Request(i, 10 + i, 0));
  }
  const auto paired = [&] { return PairRequests(MakeRun(4, in_a), MakeRun(4, in_b)); };
  EXPECT_THAT(PairedInWords(paired()), HasSubstr("median 3 ms (too few pairs for an interval)"));
  in_a.push_back(Request(6, 10, 0));
  in_b.push_back(Request(6, 16, 0));
  EXPECT_EQ(paired().interval_ms, std::pair(1.0, 6.0));
}

TEST(CompareTest, RunsThatDidNotSendTheSameAreNotPairedAndItSaysWhy) {
  const char* base =
      R"({"format_version": 1, "summary": {}, "workload": {"kind": "trace", "file": "f"},
      "options": {"workload_seed": 1, "length_scale": 1, "max_tokens": 8, "ignore_eos": true},
      "server": {"context_length": 512, "vocabulary_size": 1000}})";
  const struct {
    const char *from, *to, *why;
  } cases[] = {{R"("file": "f")", R"("file": "g")", "workload.file is f in A and g in B"},
               {R"("workload_seed": 1)", R"("workload_seed": 2)",
                "options.workload_seed is 1 in A and 2 in B"},
               {R"("length_scale": 1)", R"("length_scale": 0.5)",
                "options.length_scale is 1 in A and 0.5 in B"},
               {R"("max_tokens": 8, )", "", "options.max_tokens is 8 in A and unset in B"},
               {R"("ignore_eos": true)", R"("ignore_eos": false)",
                "options.ignore_eos is true in A and false in B"},
               {R"("context_length": 512)", R"("context_length": 256)",
                "server.context_length is 512 in A and 256 in B"},
               {R"("vocabulary_size": 1000)", R"("vocabulary_size": 9)",
                "server.vocabulary_size is 1000 in A and 9 in B"}};
  const auto a = Parse(base, {Request(1, 2, 0)});
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(PairRequests(*a, *a).a_ms.size(), 1u);
  for (const auto& [from, to, why] : cases) {
    const auto b = Parse(absl::StrReplaceAll(base, {{from, to}}), {Request(1, 2, 0)});
    ASSERT_TRUE(b.ok()) << b.status();
    EXPECT_TRUE(PairRequests(*a, *b).a_ms.empty());
    EXPECT_THAT(PairedInWords(PairRequests(*a, *b)), HasSubstr(why));
  }
}

TEST(CompareTest, SaysWhichIsBetterByTheFiguresOwnDirection) {
  const auto rows = CompareRows(MakeRun(4, {}), MakeRun(2, {}));
  EXPECT_THAT(rows, ::testing::Contains(ElementsAre("Output tokens per second", "250", "500", "250",
                                                    "2", "better")));
  EXPECT_THAT(rows, ::testing::Contains(ElementsAre("Time to first token, all, p50, ms", "4", "2",
                                                    "−2", "0.500", "better")));
  EXPECT_THAT(rows, ::testing::Contains(
                        ElementsAre("Time to first token, all, p99, ms", "9", "9", "0", "1", "")));
  EXPECT_THAT(Differences(MakeRun(4, {}), MakeRun(2, {})).rows,
              ElementsAre(ElementsAre("options.rate_per_second", "4", "2")));
}

TEST(CompareTest, SaysWhichIsBetterWhereOneOfThemIsZero) {
  const auto run = [](double ratio) {
    auto parsed =
        Parse(absl::StrCat(R"({"format_version": 1, "summary": {"rates": {"error_ratio": )", ratio,
                           R"(, "hit_ratio": )", ratio, "}}}"),
              {});
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    return *std::move(parsed);
  };
  const struct {
    double a, b;
    const char *errors, *hits;
  } cases[] = {{0, 0.2, "worse", "better"},
               {0.2, 0, "better", "worse"},
               {0, 0, "", ""},
               {0.2, 0.205, "", ""}};
  for (const auto& [a, b, errors, hits] : cases) {
    for (const auto& row : CompareRows(run(a), run(b))) {
      if (row[0] == "Failed share of requests") {
        EXPECT_EQ(row[5], errors) << a << " " << b;
      }
      if (row[0] == "Reused share of prompt tokens") {
        EXPECT_EQ(row[5], hits) << a << " " << b;
      }
    }
    EXPECT_EQ(CompareRows(run(a), run(b)).size(), 3u);
  }
}

}  // namespace
}  // namespace reprise::client
