#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/demo.h"
#include "client/format.h"

namespace reprise::client {
namespace {

constexpr size_t kLabelWidth = 48;
constexpr double kHighSimilarity = 0.8;  // the paper's threshold

std::string Shorten(const std::string& label) {
  return label.size() <= kLabelWidth ? label : label.substr(0, kLabelWidth - 3) + "...";
}

std::vector<std::string> Cells(const DemoRow& row) {
  return {Shorten(row.label),
          absl::StrCat(row.prompt_tokens),
          absl::StrCat(row.reused_tokens, "/", row.common_tokens),
          absl::StrFormat("%.1f", row.cold_first_token),
          absl::StrFormat("%.1f", row.warm_first_token),
          absl::StrFormat("%.2fx", row.cold_first_token / row.warm_first_token),
          absl::StrFormat("%.1f", row.cold_total),
          absl::StrFormat("%.1f", row.warm_total),
          row.same_output ? "yes" : "NO"};
}

template <typename Value>
double Mean(const std::vector<DemoRow>& rows, Value value) {
  double sum = 0;
  for (const DemoRow& row : rows) sum += value(row);
  return rows.empty() ? 0 : sum / static_cast<double>(rows.size());
}

template <typename Predicate>
std::string CountOf(const std::vector<DemoRow>& rows, Predicate predicate) {
  return absl::StrCat(std::count_if(rows.begin(), rows.end(), predicate), "/", rows.size());
}

// The paper's results table: its figures (T4, DialoGPT-medium) beside ours.
std::vector<std::vector<std::string>> PaperRows(const std::vector<DemoRow>& rows) {
  const double reused = Mean(rows, [](const DemoRow& row) { return row.reused_tokens; });
  const double speedup =
      Mean(rows, [](const DemoRow& row) { return 100 * (1 - row.warm_total / row.cold_total); });
  return {
      {"paper's row", "paper", "here"},
      {"cache hits", "6/6", CountOf(rows, [](const DemoRow& r) { return r.reused_tokens > 0; })},
      {"tokens reused", "38", absl::StrFormat("%.0f", reused * static_cast<double>(rows.size()))},
      {"average speedup, end to end", "46.46 %", absl::StrFormat("%.2f %%", speedup)},
      {"outputs identical to cold", "not stated",
       CountOf(rows, [](const DemoRow& row) { return row.same_output; })},
      {"average prompt similarity", "0.819",
       absl::StrFormat("%.3f", Mean(rows, [](const DemoRow& row) { return row.similarity; }))},
      {"prompts with similarity > 0.8", "4/6",
       CountOf(rows, [](const DemoRow& row) { return row.similarity > kHighSimilarity; })},
      {"average latency cold, s", "0.221",
       absl::StrFormat("%.3f", Mean(rows, [](const DemoRow& r) { return r.cold_total / 1e3; }))},
      {"average latency with reuse, s", "0.108",
       absl::StrFormat("%.3f", Mean(rows, [](const DemoRow& r) { return r.warm_total / 1e3; }))},
  };
}

}  // namespace

std::string DemoText(const DemoReport& report) {
  std::vector<std::vector<std::string>> table = {{"prompt", "tokens", "reused/common",
                                                  "TTFT cold ms", "TTFT warm ms", "ratio",
                                                  "total cold ms", "total warm ms", "same output"}};
  for (const DemoRow& row : report.rows) table.push_back(Cells(row));
  table.push_back(Cells(report.long_row));
  return absl::StrCat(FormatTable(table), "\n", FormatTable(PaperRows(report.rows)), "\n",
                      DemoPassed(report)
                          ? "Every prompt reused all it could and repeated its cold output.\n"
                          : "FAILED: a prompt reused too little or changed its output.\n");
}

}  // namespace reprise::client
