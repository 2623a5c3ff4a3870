// Two load tests side by side, as rows for a table and as an HTML page.
//
// Pure functions. A is the first run, B the second; differences are B less A, ratios B ÷ A.
#pragma once

#include <cstdint>
#include <string>
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
  // Of the median difference: order statistics n/2 ± 1.96 √n / 2, as the sign test has it.
  double low_ms = 0, high_ms = 0;
  double faster_share = 0;  // of pairs in which B was faster
  std::string why_none;     // where there are no pairs
};
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
