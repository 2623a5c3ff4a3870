// Two load tests side by side, as rows for a table and as an HTML page.
//
// Pure functions. A is the first run, B the second; differences are B less A, ratios B ÷ A.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/report/html.h"
#include "client/report/run_files.h"

namespace reprise::client {

// The same turn of the same session, completed in both, where both runs sent the same: the same
// workload, seed and file, and lengths that follow from the same options and model. An index is
// given in the order of sending, which with several turns depends on how fast the server is.
struct PairedTtft {
  std::vector<double> a_ms, b_ms;  // of each pair
  double median_difference_ms = 0;
  // 95 % of the median difference: the order statistics SignTestRank from either end; nothing where
  // there are too few.
  std::optional<std::pair<double, double>> interval_ms;
  double faster_share = 0;  // of pairs in which B was faster
  std::string why_none;     // where there are no pairs
};
// The largest r at which fewer than r of `pairs` fair coins are heads in at most 2.5 % of throws:
// the r-th smallest and the r-th largest difference hold the median in at least 95 %, whatever the
// distribution (Conover, Practical Nonparametric Statistics, 3.2). 0: below 6 pairs none does.
size_t SignTestRank(size_t pairs);

PairedTtft PairRequests(const LoadRun& a, const LoadRun& b);

// Figures of both runs: name, A, B, B less A, B ÷ A, and "better" or "worse" beyond 5 %; the first
// row is the header.
std::vector<std::vector<std::string>> CompareRows(const LoadRun& a, const LoadRun& b);

// "412 requests paired: B less A, median …", or why there are none.
std::string PairedInWords(const PairedTtft& paired);

// Options, server and workload where the runs differ.
HtmlTable Differences(const LoadRun& a, const LoadRun& b);

std::string RenderComparison(const LoadRun& a, const LoadRun& b);

}  // namespace reprise::client
