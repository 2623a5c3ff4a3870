// Limits that a run must keep: ttft_p99=200ms, error_ratio=1%, hit_ratio>=0.5.
//
// Threading  pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/load/summary.h"

namespace reprise::client::load {

struct Slo {
  std::string expression;  // as it was written
  std::string name;        // of a latency or a rate of the summary
  std::string statistic;   // of a latency: "p99"
  bool at_most = true;     // or at least
  double limit = 0;        // milliseconds, a ratio or a rate
  std::string unit;        // "ms", "ratio", "per_second"
};

// NAME_STATISTIC of a latency with ms, s or us, or the name of a rate or ratio with % or nothing.
// "=" is "<=" for times and error_ratio and ">=" for the others. Latencies: ttft, tpot, itl, e2e
// as the client measures them, ttft_scheduled, e2e_scheduled, send_delay, and those of the server
// by their names. kInvalidArgument naming what is not understood.
absl::StatusOr<Slo> ParseSlo(absl::string_view text);

struct SloResult {
  Slo slo;
  std::optional<double> measured;
  // What was not measured is not met, nor what falls on a request that never ended.
  bool met = false;
};

std::vector<SloResult> CheckSlos(const std::vector<Slo>& slos, const Summary& summary);

// Limits of one request, of which goodput counts those that keep all: ttft=200ms,tpot=50ms,e2e=2s.
absl::StatusOr<RequestLimits> ParseGoodput(absl::string_view text);

}  // namespace reprise::client::load
