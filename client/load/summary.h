// What a run comes to: totals, rates, latencies cold and warm, a timeline.
//
// Threading  pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/load/record.h"
#include "client/load/statistics.h"

namespace reprise::client::load {

// A latency in milliseconds, over measured requests that completed. `strict` adds one that never
// ends (infinity) for each that was cut off and, counted from the schedule, was never sent.
struct Latency {
  std::string name;     // "client_ttft"
  std::string formula;  // "first token - sent"
  std::optional<Distribution> all, warm, cold, strict;
};

struct Second {
  int64_t scheduled = 0, sent = 0, completed = 0, failed = 0, cancelled = 0, in_flight = 0;
  int64_t output_tokens = 0, prompt_tokens = 0, cached_tokens = 0;
  std::optional<double> ttft_p50_ms, ttft_p99_ms;
};

// Limits of one request, in milliseconds.
struct RequestLimits {
  std::optional<double> ttft, tpot, e2e;
};

struct Summary {
  // In the order of the report.
  std::vector<std::pair<std::string, int64_t>> totals;
  std::vector<std::pair<std::string, std::optional<double>>> rates;
  std::vector<Latency> latencies;
  std::map<std::string, int64_t> codes, finish_reasons, decisions, reasons, miss_reasons, errors;
  std::vector<Second> timeline;

  int64_t Total(absl::string_view name) const;
  std::optional<double> Rate(absl::string_view name) const;
  const Latency* Find(absl::string_view latency) const;
};

struct SummaryInput {
  double wall_seconds = 0;
  int64_t sessions = 0;
  int64_t peak_in_flight = 0;
  std::optional<RequestLimits> goodput;
  std::vector<double> not_sent;  // when requests were due that were never sent
};

// Of all latencies, in the order of the report.
std::vector<std::string> LatencyNames();

Summary Summarize(const std::vector<RequestRecord>& records, const SummaryInput& input);

}  // namespace reprise::client::load
