#include "client/load/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "client/format.h"
#include "client/load/recorder.h"
#include "client/load/report.h"
#include "client/load/slo.h"
#include "core/base/json.h"

namespace reprise::client::load {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

google::protobuf::Duration Ms(int milliseconds) {
  google::protobuf::Duration duration;
  duration.set_nanos(milliseconds * 1000000);
  return duration;
}

// Scheduled at `scheduled`, sent 10 ms later; three tokens at 100, 120 and 160 ms after that.
RequestRecord Completed(double scheduled, int cached) {
  RequestRecord r;
  r.scheduled = scheduled;
  r.sent = scheduled + 0.010;
  r.chunk_times = {r.sent + 0.100, r.sent + 0.120, r.sent + 0.160};
  r.finished = r.sent + 0.165;
  r.received_tokens = 3;
  r.code = "OK";
  auto& reply = r.reply.emplace();
  reply.set_finish_reason(inference::v1::FINISH_REASON_MAX_TOKENS);
  reply.mutable_usage()->set_prompt_token_count(50);
  reply.mutable_usage()->set_cached_token_count(cached);
  reply.mutable_usage()->set_computed_token_count(50 - cached);
  reply.mutable_usage()->set_output_token_count(3);
  *reply.mutable_timings()->mutable_time_to_first_token() = Ms(98);
  *reply.mutable_timings()->mutable_decode() = Ms(60);
  *reply.mutable_timings()->mutable_load() = Ms(5);
  *reply.mutable_timings()->mutable_prefill() = Ms(90);
  *reply.mutable_reuse()->mutable_predicted_total() = Ms(80);
  reply.mutable_reuse()->set_host_token_count(cached);
  reply.mutable_reuse()->set_ideal_token_count(cached > 0 ? 40 : 0);
  reply.mutable_reuse()->set_decision(cached > 0 ? inference::v1::REUSE_DECISION_REUSED
                                                 : inference::v1::REUSE_DECISION_MISS);
  return r;
}

RequestRecord Failed(double scheduled, const std::string& code, const std::string& error) {
  RequestRecord r;
  r.scheduled = r.sent = scheduled;
  r.finished = scheduled + 0.5;
  r.code = code;
  r.error = error;
  return r;
}

std::vector<RequestRecord> Records() {
  std::vector<RequestRecord> records = {Completed(0, 0), Completed(1, 30), Completed(2, 30),
                                        Failed(3, "RESOURCE_EXHAUSTED", "queue is full"),
                                        Failed(4, "CANCELLED", "")};
  for (size_t i = 0; i < records.size(); ++i) records[i].index = static_cast<int64_t>(i);
  records[0].measured = false;
  records[4].cancelled = true;
  records[4].received_tokens = 1;
  return records;
}

Summary Summed() { return Summarize(Records(), {.wall_seconds = 5, .sessions = 4}); }

TEST(StatisticsTest, QuantilesInterpolateAsNumpyDoes) {
  const auto d = Describe({4, 1, 3, 2});
  ASSERT_TRUE(d.has_value());
  EXPECT_DOUBLE_EQ(d->p50, 2.5);
  EXPECT_DOUBLE_EQ(d->p90, 3.7);
  EXPECT_DOUBLE_EQ(d->p99, 3.97);
  EXPECT_DOUBLE_EQ(d->mean, 2.5);
  EXPECT_NEAR(d->stddev, 1.118034, 1e-6);
  EXPECT_EQ(d->min, 1);
  EXPECT_EQ(d->max, 4);
  EXPECT_EQ(Describe({7})->p999, 7);
  EXPECT_EQ(Describe({1, 2, INFINITY})->p50, 2);
  EXPECT_EQ(Describe({1, 2, INFINITY})->p75, INFINITY);
  EXPECT_FALSE(Describe({}).has_value());
}

TEST(SummaryTest, TotalsAreSumsOverWhatTheRepliesSay) {
  const Summary s = Summed();
  EXPECT_EQ(s.Total("sent_count"), 5);
  EXPECT_EQ(s.Total("completed_count"), 3);
  EXPECT_EQ(s.Total("failed_count"), 1);
  EXPECT_EQ(s.Total("cancelled_count"), 1);
  EXPECT_EQ(s.Total("prompt_token_count"), 150);
  EXPECT_EQ(s.Total("cached_token_count"), 60);
  EXPECT_EQ(s.Total("computed_token_count"), 90);
  EXPECT_EQ(s.Total("output_token_count"), 9);
  EXPECT_EQ(s.Total("received_token_count"), 10) << "those of cancelled requests too";
  EXPECT_EQ(s.codes.at("OK"), 3);
  EXPECT_EQ(s.errors.at("queue is full"), 1);
  EXPECT_EQ(s.decisions.at("REUSED"), 2);
  EXPECT_DOUBLE_EQ(*s.Rate("hit_ratio"), 0.4);
  EXPECT_DOUBLE_EQ(*s.Rate("ideal_hit_ratio"), 0.75);
  EXPECT_DOUBLE_EQ(*s.Rate("error_ratio"), 0.2);
  EXPECT_DOUBLE_EQ(*s.Rate("offered_per_second"), 1);
  EXPECT_DOUBLE_EQ(*s.Rate("output_tokens_per_second"), 1.8);
  EXPECT_FALSE(s.Rate("goodput_per_second").has_value());
}

TEST(SummaryTest, LatenciesFollowTheirFormulasAndLeaveTheWarmupOut) {
  const Summary s = Summed();
  struct Case {
    const char* name;
    double value;
  };
  for (const auto& [name, value] :
       {Case{"client_ttft", 100}, Case{"client_ttft_scheduled", 110}, Case{"client_tpot", 30},
        Case{"client_e2e", 165}, Case{"client_e2e_scheduled", 175}, Case{"send_delay", 10},
        Case{"server_ttft", 98}, Case{"server_tpot", 30}, Case{"network_ttft", 2},
        Case{"prediction_error", 15}}) {
    const Latency* latency = s.Find(name);
    ASSERT_TRUE(latency != nullptr && latency->all) << name;
    EXPECT_EQ(latency->all->count, 2) << name;
    EXPECT_NEAR(latency->all->p50, value, 1e-6) << name;
    EXPECT_FALSE(latency->cold.has_value()) << name << ": the cold one was within the warm-up";
    EXPECT_NEAR(latency->warm->max, value, 1e-6) << name;
  }
  EXPECT_EQ(s.Find("client_itl")->all->count, 4);
  EXPECT_NEAR(s.Find("client_itl")->all->max, 40, 1e-6);
}

TEST(SummaryTest, TheTimelineCountsSentAndFinishedInTheirSeconds) {
  std::vector<RequestRecord> records = Records();
  records[0].finished = 2.5;  // in flight over two ends of seconds
  const auto timeline = Summarize(records, {}).timeline;
  ASSERT_EQ(timeline.size(), 5u);
  std::vector<int64_t> sent, completed, in_flight;
  for (const Second& second : timeline) {
    sent.push_back(second.sent);
    completed.push_back(second.completed);
    in_flight.push_back(second.in_flight);
  }
  EXPECT_THAT(sent, ElementsAre(1, 1, 1, 1, 1));
  EXPECT_THAT(completed, ElementsAre(0, 1, 2, 0, 0));
  EXPECT_THAT(in_flight, ElementsAre(1, 1, 0, 0, 0));
  EXPECT_EQ(timeline[1].cached_tokens, 30);
  EXPECT_NEAR(*timeline[1].ttft_p50_ms, 100, 1e-6);
  EXPECT_EQ(timeline[3].failed, 1);
}

TEST(SummaryTest, GoodputCountsRequestsThatKeepAllLimits) {
  const auto good = [](const char* limits) {
    return *Summarize(Records(), {.wall_seconds = 1, .goodput = ParseGoodput(limits).value()})
                .Rate("goodput_per_second");
  };
  EXPECT_EQ(good("ttft=101ms,tpot=31ms,e2e=1s"), 3);
  EXPECT_EQ(good("ttft=101ms,tpot=29ms"), 0);
  EXPECT_FALSE(ParseGoodput("ttft").ok());
  EXPECT_FALSE(ParseGoodput("rate=3ms").ok());
}

TEST(SloTest, LimitsAreMetOrMissed) {
  struct Case {
    const char* text;
    bool met;
  };
  for (const auto& [text, met] :
       {Case{"ttft_p99=101ms", true}, Case{"ttft_p99=0.099s", false},
        Case{"ttft_p50<=100001us", true}, Case{"server_ttft_max=98ms", true},
        Case{"client_tpot_mean=29ms", false}, Case{"error_ratio=20%", true},
        Case{"error_ratio=0", false}, Case{"hit_ratio=0.4", true}, Case{"hit_ratio>=0.5", false},
        Case{"completed_per_second>=0.6", true}, Case{"ttft_p50>=1s", false},
        Case{"goodput_per_second=1", false}}) {
    const auto slo = ParseSlo(text);
    ASSERT_TRUE(slo.ok()) << slo.status();
    EXPECT_EQ(CheckSlos({*slo}, Summed())[0].met, met) << text;
  }
}

TEST(SloTest, CountsWhatNeverEndedAsMissed) {
  std::vector<RequestRecord> records = Records();
  records[3] = Completed(3, 0);
  records[4] = Failed(4, "CANCELLED", "");
  records[4].aborted = true;
  const auto met = [&](const char* text, const std::vector<double>& not_sent) {
    const Summary summary = Summarize(records, {.wall_seconds = 5, .not_sent = not_sent});
    return CheckSlos({ParseSlo(text).value()}, summary)[0].met;
  };
  for (const char* text : {"ttft_p99=99999s", "e2e_max=99999s", "tpot_mean=99999s",
                           "server_total_p99=99999s", "ttft_p99>=1ms", "error_ratio=0"}) {
    EXPECT_FALSE(met(text, {})) << text;
  }
  EXPECT_TRUE(met("error_ratio=20%", {}));
  EXPECT_TRUE(met("ttft_p50=101ms", {})) << "one of four does not move the median so far";
  records[4].chunk_times = {records[4].sent + 0.1};
  EXPECT_TRUE(met("ttft_p99=101ms", {})) << "its first token came";
  EXPECT_FALSE(met("e2e_p99=99999s", {}));
  records.pop_back();
  EXPECT_TRUE(met("ttft_scheduled_p99=111ms", {}));
  EXPECT_FALSE(met("ttft_scheduled_p99=111ms", {4.5}));
  EXPECT_TRUE(met("ttft_p99=101ms", {4.5}));
  const Summary summary = Summarize(records, {.wall_seconds = 5, .not_sent = {4, 5, 5.5}});
  EXPECT_EQ(summary.Total("not_sent_count"), 3);
  EXPECT_EQ(summary.timeline.back().scheduled, 2);
  EXPECT_NEAR(*summary.Rate("offered_per_second"), 6 / 5.5, 1e-9);
}

TEST(SloTest, NamesWhatIsNotUnderstood) {
  for (const char* text : {"ttft_p99", "ttft=200ms", "ttft_p99=200", "ttft_p98=1ms", "speed_p50=1s",
                           "hit_ratio=high", "ttft_p99=nanms", "=", ""}) {
    EXPECT_EQ(ParseSlo(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_THAT(std::string(ParseSlo("speed_p50=1s").status().message()), HasSubstr("client_ttft"));
}

TEST(RecorderTest, SaysHowTheRunGoes) {
  Recorder recorder;
  EXPECT_THAT(ProgressLine(recorder.Live(0)), HasSubstr("TTFT p50 - p99 - ms"));
  for (int i = 0; i < 6; ++i) recorder.Sent();
  for (RequestRecord& record : Records()) recorder.Finished(std::move(record));
  EXPECT_EQ(recorder.Live(5).in_flight, 1);
  EXPECT_EQ(recorder.peak_in_flight(), 6);
  EXPECT_THAT(ProgressLine(recorder.Live(5)),
              HasSubstr("sent 6 | in flight 1 | 0.6 done/s | failed 1 | hits 40.0 % | TTFT p50 "
                        "100.0 p99 100.0 ms"));
  EXPECT_FALSE(recorder.Live(100).ttft_p50_ms.has_value()) << "only of the last seconds";
  EXPECT_EQ(recorder.Take().size(), 5u);
}

RunReport Report() {
  RunReport report;
  report.tool_version = "0";
  report.options_json = "{\"rate_per_second\":2}";
  report.workload.notes = {"a \"note\""};
  report.summary = Summed();
  report.slos = CheckSlos({ParseSlo("ttft_p99=1ms").value()}, report.summary);
  return report;
}

std::vector<std::string> Codes(const RunReport& report, const std::vector<RequestRecord>& records) {
  std::vector<std::string> codes;
  for (const Warning& one : FindWarnings(report, records)) codes.push_back(one.code);
  return codes;
}

TEST(ReportTest, WarnsOfWhatMakesFiguresMislead) {
  auto records = Records();
  for (RequestRecord& r : records) r.sent = r.scheduled + 0.001;
  RunReport report = Report();
  EXPECT_THAT(Codes(report, records), ElementsAre("errors"));
  report.closed_loop = true;
  records[1].held_back = true;
  records[2].sent = records[2].scheduled + 0.2;
  records[0].reply->mutable_usage()->set_cached_token_count(3);
  report.workload.malformed_count = report.workload.clipped_count = 1;
  report.outcome.unfinished_sessions = 2;
  report.outcome.not_sent = {5};
  records[4].cancelled = false;
  records[4].aborted = true;
  report.summary = Summarize(records, {.wall_seconds = 5});
  EXPECT_THAT(Codes(report, records),
              ElementsAre("closed_loop", "coordinated_omission", "not_sent", "client_too_slow",
                          "warm_start", "malformed_trace", "clipped_prompts", "unfinished_sessions",
                          "cut_off", "errors"));
}

TEST(ReportTest, SaysWhyLessWasOfferedThanAskedFor) {
  RunReport report = Report();
  auto records = Records();
  for (RequestRecord& r : records) r.sent = r.scheduled;
  for (const auto& [rate, below] : {std::pair{1.05, false}, std::pair{1.2, true}}) {
    report.rate = rate;  // 1 a second was offered
    const auto codes = Codes(report, records);
    EXPECT_EQ(std::count(codes.begin(), codes.end(), "below_rate"), below ? 1 : 0) << rate;
  }
  struct Case {
    RunOutcome outcome;
    const char* why;
  };
  for (const auto& [outcome, why] : {Case{{.unfinished_sessions = 9}, "window"},
                                     Case{{.end = RunEnd::kInterrupted}, "interrupt"},
                                     Case{{.end = RunEnd::kDuration}, "--duration"}}) {
    report.outcome = outcome;
    const auto warnings = FindWarnings(report, {});
    ASSERT_FALSE(warnings.empty());
    EXPECT_EQ(warnings[0].code, "nothing_sent");
    EXPECT_THAT(warnings[0].message, HasSubstr(why));
  }
}

TEST(ReportTest, NoTextReachesTheTerminalAsCommands) {
  RunReport report = Report();
  const std::string hostile = "a\x1b[2Jb\nc";
  report.model.set_name(hostile);
  report.workload.notes = {hostile};
  report.warnings = {{"errors", hostile}};
  report.summary.errors = {{hostile, 1}};
  const std::string text = ConsoleText(report);
  EXPECT_THAT(text, HasSubstr("note: a [2Jb c"));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(FormatTable({{"h"}, {hostile}}).find('\x1b'), std::string::npos);
}

TEST(ReportTest, RunJsonHasWhatItsPageSays) {
  const auto run = JsonValue::Parse(RunJson(Report()));
  ASSERT_TRUE(run.ok()) << run.status();
  const auto summary = run->Get("summary").value();
  EXPECT_EQ(summary.Get("totals")->IntOr("prompt_token_count", 0).value(), 150);
  const auto ttft = summary.Get("latency")->Get("client_ttft").value();
  EXPECT_EQ(ttft.StringOr("formula", "").value(), "first token - sent");
  EXPECT_NEAR(ttft.Get("all")->DoubleOr("p99", 0).value(), 100, 1e-6);
  EXPECT_FALSE(ttft.Has("cold"));
  EXPECT_EQ(summary.Get("timeline")->size(), 5u);
  EXPECT_FALSE(summary.Get("slo")->At(0)->BoolOr("met", true).value());
  EXPECT_EQ(run->Get("workload")->Get("notes")->At(0)->AsString().value(), "a \"note\"");
  EXPECT_EQ(run->Get("options")->IntOr("rate_per_second", 0).value(), 2);
}

TEST(ReportTest, RequestLinesKeepWhatARequestNeverCameToAsNull) {
  auto records = Records();
  records[3].label = "a\n\xFF";
  const auto done = JsonValue::Parse(RecordJson(records[1]));
  const auto failed = JsonValue::Parse(RecordJson(records[3]));
  ASSERT_TRUE(done.ok() && failed.ok()) << failed.status();
  EXPECT_EQ(done->Keys().value(), failed->Keys().value());
  EXPECT_EQ(done->IntOr("cached_token_count", 0).value(), 30);
  EXPECT_EQ(done->StringOr("decision", "").value(), "REUSED");
  EXPECT_EQ(done->Get("inter_chunk_ms")->size(), 2u);
  EXPECT_NEAR(done->DoubleOr("client_tpot_ms", 0).value(), 30, 1e-6);
  EXPECT_FALSE(failed->Has("prompt_token_count") || failed->Has("client_ttft_ms") ||
               failed->Has("server_ttft_ms"));
  EXPECT_EQ(failed->StringOr("error", "").value(), "queue is full");
}

TEST(ReportTest, TheTextShowsColdBesideWarmAndTheMissedLimit) {
  auto records = Records();
  records[0].measured = true;
  RunReport report = Report();
  report.summary = Summarize(records, {.wall_seconds = 5});
  const std::string text = ConsoleText(report);
  EXPECT_THAT(text, HasSubstr("5 sent in 0 sessions: 3 completed, 1 failed, 1 cancelled"));
  EXPECT_THAT(text, HasSubstr("client_ttft = first token - sent"));
  EXPECT_THAT(text, HasSubstr("cold (nothing reused)"));
  EXPECT_THAT(text, HasSubstr("SLO MISSED  ttft_p99=1ms: measured 100 ms"));
  report.slos = {{ParseSlo("e2e_p99=1ms").value(), std::nullopt, false}};
  EXPECT_THAT(ConsoleText(report), HasSubstr("e2e_p99=1ms: measured nothing that ended\n"));
  EXPECT_THAT(text, Not(HasSubstr("nan")));
  const std::string csv = SummaryCsv(report.summary);
  EXPECT_THAT(csv, HasSubstr("client_ttft,warm,ms,2,100,"));
  EXPECT_THAT(csv, HasSubstr("prompt_token_count,total,,150,"));
}

}  // namespace
}  // namespace reprise::client::load
