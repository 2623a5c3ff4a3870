// What a run leaves: a block of text, run.json, requests.jsonl and summary.csv. docs/bench.md
// has their fields.
//
// Threading  pure functions but for WriteFiles.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/load/driver.h"
#include "client/load/slo.h"
#include "client/load/summary.h"
#include "reprise/inference/v1/generation_service.pb.h"

namespace reprise::client::load {

struct WorkloadFacts {
  std::string kind;  // "profile" or "trace"
  std::string name;  // of the profile or the format
  std::string file;  // of a trace
  int64_t malformed_count = 0;
  int64_t clipped_count = 0;
  std::vector<std::string> notes;
};

struct Warning {
  std::string code;
  std::string message;
};

struct RunReport {
  std::string tool_version;
  std::string command_line;
  std::string options_json;  // an object
  std::string load_text;     // how it was sent, in a line
  absl::Time started_at;
  std::string address;
  inference::v1::Model model;
  WorkloadFacts workload;
  bool closed_loop = false;
  std::optional<double> rate;  // requests a second that were asked for throughout
  RunOutcome outcome;
  Summary summary;
  std::vector<SloResult> slos;
  std::vector<Warning> warnings;
};

// Of a run whose other parts are there.
std::vector<Warning> FindWarnings(const RunReport& report,
                                  const std::vector<RequestRecord>& records);

std::string ConsoleText(const RunReport& report);
std::string RunJson(const RunReport& report);
std::string SummaryCsv(const Summary& summary);

// Makes `folder`; kAlreadyExists naming it: it holds a run;
// kFailedPrecondition: it cannot be made. For before the run.
absl::Status MakeFolder(const std::string& folder);

// kFailedPrecondition naming the file that could not be written.
absl::Status WriteFiles(const std::string& folder, const RunReport& report,
                        const std::vector<RequestRecord>& records);

}  // namespace reprise::client::load
