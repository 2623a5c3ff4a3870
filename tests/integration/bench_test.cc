// The load test against the whole server in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/load/bench_command.h"
#include "client/load/driver.h"
#include "client/load/profiles.h"
#include "client/load/summary.h"
#include "client/load/trace_reader.h"
#include "tests/integration/test_server.h"

namespace reprise::client::load {
namespace {

constexpr int32_t kWindow = 1024;
constexpr int32_t kVocabulary = 257;

struct Load {
  RunOutcome outcome;
  std::vector<RequestRecord> records;
  Summary summary;
};

DriverOptions Options(TestServer& server, Arrival arrival) {
  DriverOptions options;
  options.client.address = absl::StrCat("127.0.0.1:", server.grpc().inference_port());
  options.schedule = {.arrival = arrival, .rate = 400};
  options.context_length = kWindow;
  options.concurrency = 4;
  options.request_limit = 60;
  options.speedup = 1e5;
  options.spec.mutable_sampling()->set_ignore_eos(true);
  return options;
}

Load Drive(const DriverOptions& options, SessionSource& source) {
  Recorder recorder;
  LoadDriver driver(options, &recorder);
  const std::atomic<bool> stop{false};
  Load run;
  run.outcome = driver.Run(source, stop);
  run.records = recorder.Take();
  run.summary = Summarize(run.records, {.wall_seconds = run.outcome.wall_seconds});
  return run;
}

std::unique_ptr<SessionSource> Profile(const std::string& name) {
  return CreateProfile(name, {.context_length = kWindow, .vocabulary_size = kVocabulary}).value();
}

// The server has counted what the run's replies say.
void ExpectServerAgrees(const TestServer& server, const Summary& summary) {
  const auto metric = [&](const char* name, const char* label = "") {
    return static_cast<int64_t>(server.Metric(name, label));
  };
  EXPECT_EQ(summary.Total("sent_count"),
            metric("reprise_requests_total", "method=\"StreamGenerate\""));
  EXPECT_EQ(summary.Total("prompt_token_count"), metric("reprise_prompt_tokens_total"));
  EXPECT_EQ(summary.Total("cached_token_count"), metric("reprise_cached_prompt_tokens_total"));
  EXPECT_EQ(summary.Total("computed_token_count"), metric("reprise_computed_prompt_tokens_total"));
  EXPECT_EQ(summary.Total("output_token_count"), metric("reprise_output_tokens_total"));
  EXPECT_EQ(summary.Total("received_token_count"), summary.Total("output_token_count"));
}

TEST(BenchTest, TotalsOfOpenAndClosedLoopsAreTheServers) {
  for (const Arrival arrival : {Arrival::kPoisson, Arrival::kClosed}) {
    TestServer server({.context_length = kWindow});
    const Load run = Drive(Options(server, arrival), *Profile("chat"));
    EXPECT_EQ(run.summary.Total("completed_count"), 60);
    EXPECT_GT(run.summary.Total("cached_token_count"), 0) << "turns reuse those before them";
    server.AwaitEnded(60, "OK");
    ExpectServerAgrees(server, run.summary);
    for (const RequestRecord& r : run.records) {
      EXPECT_LE(r.scheduled, r.sent);
      EXPECT_TRUE(std::is_sorted(r.chunk_times.begin(), r.chunk_times.end()));
      EXPECT_LE(r.sent, r.chunk_times.front());
      EXPECT_LE(r.chunk_times.back(), r.finished);
      EXPECT_EQ(r.asked_prompt_tokens, r.reply->usage().prompt_token_count());
    }
  }
}

TEST(BenchTest, TurnsSendTheRealRepliesBack) {
  TestServer server({.context_length = kWindow});
  const Load run = Drive(Options(server, Arrival::kClosed), *Profile("chat"));
  std::map<std::pair<int64_t, int>, const RequestRecord*> by_turn;
  for (const RequestRecord& r : run.records) by_turn[{r.session, r.turn}] = &r;
  int later = 0;
  for (const auto& [place, record] : by_turn) {
    const auto before = by_turn.find({place.first, place.second - 1});
    if (before == by_turn.end()) continue;
    ++later;
    const auto& usage = before->second->reply->usage();
    // All of prompt and reply but the reply's last token, whose KV is not computed.
    EXPECT_GE(record->reply->usage().cached_token_count(),
              usage.prompt_token_count() + usage.output_token_count() - 1);
  }
  EXPECT_GT(later, 10);
}

TEST(BenchTest, EveryProfileAndTraceRuns) {
  TestServer server({.context_length = kWindow});
  for (const std::string& name : ProfileNames()) {
    const Load run = Drive(Options(server, Arrival::kPoisson), *Profile(name));
    EXPECT_EQ(run.summary.Total("completed_count"), 60) << name;
    EXPECT_EQ(run.summary.Total("failed_count"), 0) << name;
  }
  for (const auto& [format, file] :
       {std::pair{"mooncake", "mooncake.jsonl"}, std::pair{"azure", "azure.csv"},
        std::pair{"burstgpt", "burstgpt.csv"}, std::pair{"sharegpt", "sharegpt.json"},
        std::pair{"messages", "messages.jsonl"}}) {
    TraceOptions trace;
    trace.format = ParseTraceFormat(format).value();
    trace.context_length = kWindow;
    trace.vocabulary_size = kVocabulary;
    trace.default_output_tokens = 8;
    auto source = ReadTrace(absl::StrCat("tests/data/traces/", file), trace);
    ASSERT_TRUE(source.ok()) << source.status();
    const int64_t requests = (*source)->facts().requests;
    const Arrival arrival = (*source)->facts().timed ? Arrival::kTrace : Arrival::kPoisson;
    const Load run = Drive(Options(server, arrival), **source);
    EXPECT_EQ(run.summary.Total("completed_count"), requests) << format;
    EXPECT_EQ(run.outcome.end, RunEnd::kComplete);
  }
}

TEST(BenchTest, CancelsTheShareThatIsAskedFor) {
  TestServer server({.context_length = kWindow});
  DriverOptions options = Options(server, Arrival::kPoisson);
  options.cancel_ratio = 1;
  const Load run = Drive(options, *Profile("cold"));
  const int64_t cancelled = run.summary.Total("cancelled_count");
  EXPECT_GT(cancelled, 30) << "some end before their cancellation arrives";
  EXPECT_EQ(cancelled + run.summary.Total("completed_count"), 60);
  for (const RequestRecord& r : run.records) {
    EXPECT_TRUE(r.cancel_planned);
    EXPECT_LE(r.received_tokens, r.asked_output_tokens);
  }
}

TEST(BenchTest, ALimitOfRequestsInFlightShowsInTimesFromTheSchedule) {
  TestServer server({.context_length = kWindow});
  DriverOptions options = Options(server, Arrival::kUniform);
  options.schedule.rate = 5000;
  options.max_in_flight = 1;
  const Load run = Drive(options, *Profile("cold"));
  const auto held = std::count_if(run.records.begin(), run.records.end(),
                                  [](const RequestRecord& r) { return r.held_back; });
  EXPECT_GT(held, 30);
  const Latency* sent = run.summary.Find("client_ttft");
  const Latency* scheduled = run.summary.Find("client_ttft_scheduled");
  EXPECT_GT(scheduled->all->max, sent->all->max);
}

TEST(BenchTest, AllThatWaitedForARequestInFlightIsMarked) {
  TestServer server({.context_length = kWindow});
  server.gate().Close();
  DriverOptions options = Options(server, Arrival::kUniform);
  options.max_in_flight = 4;
  options.request_limit = 10;
  Recorder recorder;
  LoadDriver driver(options, &recorder);
  const std::atomic<bool> stop{false};
  std::thread opener([&] {  // when all ten are overdue
    while (recorder.Live(0).sent < 4 || driver.Now() < 0.1) absl::SleepFor(absl::Milliseconds(1));
    server.gate().Open();
  });
  const RunOutcome outcome = driver.Run(*Profile("cold"), stop);
  opener.join();
  EXPECT_EQ(outcome.sessions, 10) << "those sent, not those made ahead";
  EXPECT_TRUE(outcome.not_sent.empty()) << "no more were asked for";
  for (const RequestRecord& r : recorder.Take()) EXPECT_EQ(r.held_back, r.index >= 4) << r.index;
}

TEST(BenchTest, ASessionThatFollowsAnotherDidNotWaitForTheLimit) {
  TestServer server({.context_length = kWindow});
  DriverOptions options = Options(server, Arrival::kClosed);
  options.concurrency = options.max_in_flight = 1;
  for (const RequestRecord& r : Drive(options, *Profile("cold")).records) {
    EXPECT_FALSE(r.held_back) << r.index;
  }
}

TEST(BenchTest, WhatIsDueAndNeverSentIsCounted) {
  TestServer server({.context_length = kWindow});
  server.gate().Close();
  DriverOptions options = Options(server, Arrival::kUniform);
  options.max_in_flight = 1;
  options.request_limit = 0;
  options.duration_seconds = 0.4;  // 159 are due, more than are made ahead
  options.grace_seconds = 0;
  const Load run = Drive(options, *Profile("cold"));
  EXPECT_EQ(run.outcome.end, RunEnd::kDuration);
  Schedule schedule(options.schedule);
  size_t due = 1;  // at the start
  while (schedule.Next() < options.duration_seconds) ++due;
  EXPECT_EQ(run.records.size() + run.outcome.not_sent.size(), due);
  EXPECT_EQ(run.records.size(), 1u);
}

TEST(BenchTest, ARefusedTurnEndsItsSessionAndIsNamed) {
  TestServer server({.context_length = kWindow});
  DriverOptions options = Options(server, Arrival::kClosed);
  options.context_length = 4 * kWindow;  // as if the server's window were longer
  options.request_limit = 20;
  auto source = CreateProfile("cold", {.context_length = 4 * kWindow,
                                       .vocabulary_size = kVocabulary,
                                       .length_scale = 8})
                    .value();
  const Load run = Drive(options, *source);
  EXPECT_GT(run.summary.Total("failed_count"), 0);
  EXPECT_EQ(run.summary.codes.count("INVALID_ARGUMENT"), 1u);
  EXPECT_FALSE(run.summary.errors.empty());
}

TEST(BenchTest, StopsAtOnceWhenAsked) {
  TestServer server({.context_length = kWindow});
  server.gate().Close();  // no reply ends
  DriverOptions options = Options(server, Arrival::kPoisson);
  options.request_limit = 0;
  Recorder recorder;
  LoadDriver driver(options, &recorder);
  std::atomic<bool> stop{false};
  std::thread stopper([&] {
    while (recorder.Live(0).sent < 10) absl::SleepFor(absl::Milliseconds(1));
    stop = true;
  });
  const auto source = Profile("cold");
  const RunOutcome outcome = driver.Run(*source, stop);
  stopper.join();
  EXPECT_EQ(outcome.end, RunEnd::kInterrupted);
  for (const RequestRecord& r : recorder.Take()) EXPECT_TRUE(r.aborted);
}

TEST(BenchTest, TheExitCodeIsTheRunsNotThatOfItsFiles) {
  TestServer server({.context_length = kWindow});
  GlobalOptions globals;
  globals.client.address = absl::StrCat("127.0.0.1:", server.grpc().inference_port());
  const auto run = [&](std::vector<std::string> more) {
    CLI::App app;
    Command chosen;
    AddBenchCommand(app, globals, chosen,
                    [](const std::string&) { return absl::UnavailableError("disk is full"); });
    std::vector<std::string> arguments{"bench", "--no-progress"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::reverse(arguments.begin(), arguments.end());
    app.parse(arguments);
    return chosen();
  };
  const std::vector<std::string> load{"--profile", "cold", "--concurrency", "1", "--requests", "1"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), load.begin(), load.end());
    return run(more);
  };
  const std::string folder = absl::StrCat(::testing::TempDir(), "/bench-", getpid(), "-");
  EXPECT_EQ(with({}), 0);
  EXPECT_EQ(with({"--output", folder + "a"}), kExitFailed);
  EXPECT_EQ(with({"--output", folder + "b", "--slo", "ttft_p99=1us"}), kExitCheckFailed);
  for (const char* name : {"a", "b"}) {
    for (const char* file : {"/run.json", "/requests.jsonl", "/summary.csv", ""}) {
      EXPECT_EQ(std::remove((folder + name + file).c_str()), 0) << name << file;
    }
  }
  EXPECT_EQ(with({"--output", "/dev/null/run"}), kExitFailed);
  EXPECT_EQ(run({"--trace", folder + "none", "--trace-format", "azure"}), kExitUsage);
}

TEST(BenchTest, IsInterruptedWhileItWaitsForTheLastReplies) {
  TestServer server({.context_length = kWindow});
  server.gate().Close();
  DriverOptions options = Options(server, Arrival::kPoisson);
  options.request_limit = 3;
  Recorder recorder;
  LoadDriver driver(options, &recorder);
  std::atomic<bool> stop{false};
  std::thread stopper([&] {
    while (recorder.Live(0).sent < 3) absl::SleepFor(absl::Milliseconds(1));
    absl::SleepFor(absl::Milliseconds(60));  // until nothing is left to send
    stop = true;
  });
  const RunOutcome outcome = driver.Run(*Profile("cold"), stop);
  stopper.join();
  EXPECT_EQ(outcome.end, RunEnd::kInterrupted);
}

}  // namespace
}  // namespace reprise::client::load
