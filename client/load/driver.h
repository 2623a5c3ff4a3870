// LoadDriver sends sessions to a server at their times and records what comes back.
//
// One thread keeps the schedule and never waits for the server; one thread a channel takes
// what arrives. So a request is late only when the client itself is, or where the caller limits
// how many may be in flight; its record says both times and which of the two it was.
//
// Threading  Run blocks; Now is safe from any thread while it runs.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "client/client.h"
#include "client/load/recorder.h"
#include "client/load/schedule.h"
#include "client/load/workload.h"

namespace reprise::client::load {

struct DriverOptions {
  ClientOptions client;      // its timeout is that of one request
  std::string second_token;  // of another tenant, for sessions that ask for it
  // Of every request, less the prompt; its max_output_tokens, if set, go over the workload's.
  inference::v1::GenerationSpec spec;
  ScheduleOptions schedule;
  int32_t context_length = 0;  // the model's
  int concurrency = 1;         // sessions at a time, closed loop
  int channels = 2;
  int max_in_flight = 0;        // 0: no limit
  double duration_seconds = 0;  // nothing is sent later; 0: no limit
  int64_t request_limit = 0;    // 0: no limit
  double warmup_seconds = 0;    // what is scheduled before is not measured
  double grace_seconds = 30;    // for replies after the last request; then they are cut off
  double speedup = 1;           // of thinking times and of the times of traces
  double cancel_ratio = 0;      // share of requests that are cancelled, at a random token
  uint64_t seed = 1;
  std::string run_name = "bench";  // request ids begin with it
};

enum class RunEnd { kComplete, kDuration, kInterrupted };

struct RunOutcome {
  double wall_seconds = 0;
  RunEnd end = RunEnd::kComplete;
  int64_t sessions = 0;             // whose first turn was sent
  int64_t unfinished_sessions = 0;  // with turns that were never sent
  // When requests were due that max_in_flight held back to the end; of a session, its next turn.
  std::vector<double> not_sent;
};

class LoadDriver {
 public:
  // `recorder` outlives it.
  LoadDriver(const DriverOptions& options, Recorder* recorder);
  ~LoadDriver();

  // Until the source ends, a limit is reached or `stop` is true; then waits for what is in flight.
  RunOutcome Run(SessionSource& source, const std::atomic<bool>& stop);

  // Seconds since the start of the run.
  double Now() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace reprise::client::load
