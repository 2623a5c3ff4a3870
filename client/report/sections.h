// The parts of a load test's page that come from its run.json: cards and tables, as HTML.
#pragma once

#include <string>
#include <vector>

#include "client/report/html.h"
#include "client/report/run_files.h"

namespace reprise::client {

// A latency that bench measures: its name in run.json, and for people.
struct LatencyName {
  const char* key;
  const char* title;
};
const std::vector<LatencyName>& ClientLatencies();
const std::vector<LatencyName>& ServerLatencies();

// A figure of `summary.rates`: its name in run.json, for people, and its formula.
struct RateName {
  const char* key;
  const char* title;
  const char* formula;
  bool is_ratio;
  int better;  // 1: more is better, -1: less is, 0: neither
};
const std::vector<RateName>& Rates();

std::string Milliseconds(double value);  // "12.3 ms", "1.23 s"

// "chat on SmolLM2-135M, 60.0 s, started 2026-11-25T21:00:00Z".
std::string Subtitle(const LoadRun& run);

std::string Warnings(const LoadRun& run);  // "" without any
std::string KeyFigures(const LoadRun& run);
std::string Objectives(const LoadRun& run);  // SLOs; "" without any
std::string LatencyTables(const LoadRun& run);
std::string OutcomeTables(const LoadRun& run);
std::string SlowestRequests(const LoadRun& run);
std::string SetupTables(const LoadRun& run);
std::string SourcesAndDecisions(const LoadRun& run);

// Counts and percentiles of a latency, a row each for the subsets that have values.
HtmlTable LatencyNumbers(const LoadRun& run, const char* key);

}  // namespace reprise::client
