// The command line of `reprise bench`.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/generation_options.h"
#include "client/load/driver.h"
#include "client/load/report.h"
#include "client/load/slo.h"
#include "client/load/workload.h"
#include "reprise/inference/v1/generation_service.pb.h"

namespace reprise::client::load {

struct LoadOptions {
  std::string profile;  // or
  std::string trace;
  std::string trace_format;
  std::string on_malformed = "skip";
  std::string arrival;         // empty: what fits the workload
  std::optional<double> rate;  // requests a second
  std::optional<double> end_rate;
  std::optional<double> cv;
  int concurrency = 0;  // above 0: closed loop
  int channels = 2;
  int max_in_flight = 0;
  double duration = 0;
  int64_t requests = 0;
  double warmup = 0;
  double grace = 30;
  std::optional<double> speedup;
  std::optional<double> length_scale;
  double cancel_ratio = 0;
  uint64_t workload_seed = 1;
  bool respect_eos = false;
  std::string second_token;
  std::string output;
  std::vector<std::string> slos;
  std::string goodput;
  bool no_progress = false;
  GenerationOptions generation;

  void AddTo(CLI::App& command);

 private:
  void AddWorkload(CLI::App& command);
  void AddArrival(CLI::App& command);
  void AddResults(CLI::App& command);
};

// What a run is made of, all checked.
struct LoadPlan {
  std::unique_ptr<SessionSource> source;
  WorkloadFacts workload;
  DriverOptions driver;
  std::vector<Slo> slos;
  std::optional<RequestLimits> goodput;
  std::optional<double> rate;  // of arrivals that are drawn, where it stays the same
  std::string options_json;
  std::string load_text;
};

// The limits that need no server. kInvalidArgument naming option and value.
absl::Status CheckLimits(const LoadOptions& options, LoadPlan& plan);

// The rest, for a server's model. kInvalidArgument as above; kFailedPrecondition: the trace holds
// conversations and the model has no chat format; errors of reading the trace.
absl::Status MakePlan(const LoadOptions& options, const ClientOptions& client,
                      const inference::v1::Model& model, LoadPlan& plan);

}  // namespace reprise::client::load
