#include "client/load/bench_command.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <iostream>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "client/format.h"
#include "client/load/load_options.h"

namespace reprise::client::load {
namespace {

constexpr absl::Duration kTerminalInterval = absl::Seconds(1);
constexpr absl::Duration kLogInterval = absl::Seconds(5);

std::atomic<bool> interrupted{false};

// Until its end the first SIGINT or SIGTERM stops the run; the second ends the program.
class StopOnSignal {
 public:
  StopOnSignal() {
    interrupted = false;
    for (const int signal : {SIGINT, SIGTERM}) {
      std::signal(signal, [](int number) {
        interrupted = true;
        std::signal(number, SIG_DFL);
      });
    }
  }
  ~StopOnSignal() {
    for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);
  }
};

// Shows how the run goes on standard error while it lives.
class Progress {
 public:
  Progress(const LoadDriver& driver, const Recorder& recorder, bool shown) {
    if (!shown) return;
    thread_ = std::thread([this, &driver, &recorder] {
      const bool terminal = isatty(STDERR_FILENO) != 0;
      const auto interval = terminal ? kTerminalInterval : kLogInterval;
      while (!done_.WaitForNotificationWithTimeout(interval)) {
        const std::string line = ProgressLine(recorder.Live(driver.Now()));
        std::cerr << (terminal ? "\r\x1b[K" : "") << line << (terminal ? "" : "\n") << std::flush;
      }
      if (terminal) std::cerr << "\r\x1b[K" << std::flush;
    });
  }
  ~Progress() {
    done_.Notify();
    if (thread_.joinable()) thread_.join();
  }

 private:
  absl::Notification done_;
  std::thread thread_;
};

struct Bench {
  const GlobalOptions& globals;
  const LoadOptions& options;
  const AfterRun& after_run;
};

RunReport RunLoad(const Bench& bench, LoadPlan& plan, std::vector<RequestRecord>& records) {
  RunReport report;
  report.started_at = absl::Now();
  plan.driver.run_name = absl::StrCat("bench-", absl::Hex(absl::ToUnixMicros(report.started_at)));
  Recorder recorder;
  LoadDriver driver(plan.driver, &recorder);
  {
    StopOnSignal stop;
    Progress progress(driver, recorder, !bench.options.no_progress);
    report.outcome = driver.Run(*plan.source, interrupted);
  }
  records = recorder.Take();
  SummaryInput input;
  input.wall_seconds = report.outcome.wall_seconds;
  input.sessions = report.outcome.sessions;
  input.not_sent = report.outcome.not_sent;
  input.peak_in_flight = recorder.peak_in_flight();
  input.goodput = plan.goodput;
  report.summary = Summarize(records, input);
  return report;
}

void Complete(const Bench& bench, const LoadPlan& plan, RunReport& report,
              const std::vector<RequestRecord>& records) {
  report.tool_version = bench.globals.version;
  report.command_line = bench.globals.command_line;
  report.address = bench.globals.client.address;
  report.options_json = plan.options_json;
  report.load_text = plan.load_text;
  report.workload = plan.workload;
  report.rate = plan.rate;
  report.closed_loop = plan.driver.schedule.arrival == Arrival::kClosed;
  report.slos = CheckSlos(plan.slos, report.summary);
  report.warnings = FindWarnings(report, records);
}

// What failed in all requests, when nothing else happened.
int ExitCode(const RunReport& report) {
  if (report.summary.Total("completed_count") == 0) {
    const auto& codes = report.summary.codes;
    const bool unreachable = codes.size() == 1 && codes.begin()->first == "UNAVAILABLE";
    return unreachable ? kExitUnavailable : kExitFailed;
  }
  const auto missed = [](const SloResult& result) { return !result.met; };
  const bool any = std::any_of(report.slos.begin(), report.slos.end(), missed);
  return any ? kExitCheckFailed : 0;
}

// Prints and keeps the run; its exit code, or 1 where only keeping it failed.
int Finish(const Bench& bench, const RunReport& report, const std::vector<RequestRecord>& records) {
  std::cout << (bench.globals.json ? RunJson(report) + "\n" : ConsoleText(report)) << std::flush;
  const int code = ExitCode(report);
  if (bench.options.output.empty()) return code;
  absl::Status status = WriteFiles(bench.options.output, report, records);
  if (status.ok() && bench.after_run) status = bench.after_run(bench.options.output);
  if (status.ok()) return code;
  ReportFailure(status);
  return code != 0 ? code : kExitFailed;
}

int RunBench(const Bench& bench) {
  LoadPlan plan;
  if (auto status = CheckLimits(bench.options, plan); !status.ok()) {
    ReportFailure(status);
    return kExitUsage;
  }
  if (!bench.options.output.empty()) {
    if (auto status = MakeFolder(bench.options.output); !status.ok()) return ReportFailure(status);
  }
  Client client = bench.globals.Connect();
  const auto model = client.GetModel();
  if (!model.ok()) return ReportFailure(model.status());
  ClientOptions target = bench.globals.client;
  target.timeout = absl::Seconds(bench.globals.timeout_seconds);
  if (auto status = MakePlan(bench.options, target, *model, plan); !status.ok()) {
    const int code = ReportFailure(status);
    return absl::IsInvalidArgument(status) || absl::IsNotFound(status) ? kExitUsage : code;
  }
  for (const std::string& note : plan.workload.notes) {
    std::cerr << "note: " << Printable(note) << std::endl;
  }
  std::vector<RequestRecord> records;
  RunReport report = RunLoad(bench, plan, records);
  report.model = *model;
  Complete(bench, plan, report, records);
  return Finish(bench, report, records);
}

}  // namespace

CLI::App* AddBenchCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen,
                          AfterRun after_run) {
  CLI::App* command = app.add_subcommand("bench", "Send load and measure: docs/bench.md");
  auto options = std::make_shared<LoadOptions>();
  options->AddTo(*command);
  command->callback([=, &globals, &chosen] {
    if (!command->get_subcommands().empty()) return;
    chosen = [=, &globals] { return RunBench({globals, *options, after_run}); };
  });
  return command;
}

}  // namespace reprise::client::load
