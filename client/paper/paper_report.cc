#include <algorithm>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/format.h"
#include "client/load/statistics.h"
#include "client/paper/paper_run.h"

namespace reprise::client {
namespace {

using PromptKey = std::tuple<std::string, std::string, int>;  // set, ends, prompt

PromptKey KeyOf(const PaperRow& row) { return {row.set, row.ends, row.prompt}; }

// The first cold output of each prompt.
std::map<PromptKey, const Ids*> ColdOutputs(const std::vector<PaperRow>& rows) {
  std::map<PromptKey, const Ids*> cold;
  for (const PaperRow& row : rows) {
    if (row.arm == "B") cold.emplace(KeyOf(row), &row.output);
  }
  return cold;
}

bool IsCold(const PaperRow& row, const std::map<PromptKey, const Ids*>& cold) {
  const auto found = cold.find(KeyOf(row));
  return found != cold.end() && row.output == *found->second;
}

struct Summary {
  int requests = 0, hits = 0, same = 0;
  int64_t reused = 0;
  std::vector<double> client, first_token;
};

std::string MedianText(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return absl::StrFormat("%.2f", load::Quantile(values, 0.5));
}

}  // namespace

std::vector<std::string> PaperFailures(const std::vector<PaperRow>& rows) {
  std::vector<std::string> failures;
  if (rows.empty()) failures.push_back("no request was made");
  const auto cold = ColdOutputs(rows);
  for (const PaperRow& row : rows) {
    const std::string name = absl::StrCat(row.set, " ", row.prompt, ", ", row.arm, ", repeat ",
                                          row.repeat, ", \"", row.label, "\": ");
    if (!IsCold(row, cold)) failures.push_back(name + "the output is not the cold one");
    const int most = std::min(row.common_tokens, row.prompt_tokens - 1);
    if (row.arm == "P1" && row.reused_tokens < most) {
      failures.push_back(absl::StrCat(name, row.reused_tokens, " of ", most, " tokens reused"));
    }
    if (row.arm == "P2" && row.reused_tokens > 0 && row.disk_tokens == 0) {
      failures.push_back(name + "nothing of what was reused came from the store");
    }
  }
  return failures;
}

std::string PaperText(const std::vector<PaperRow>& rows) {
  const auto cold = ColdOutputs(rows);
  std::map<std::tuple<std::string, std::string, std::string>, Summary> summaries;
  for (const PaperRow& row : rows) {
    Summary& summary = summaries[{row.set, row.ends, row.arm}];
    ++summary.requests;
    summary.hits += row.reused_tokens > 0 ? 1 : 0;
    summary.same += IsCold(row, cold) ? 1 : 0;
    summary.reused += row.reused_tokens;
    summary.client.push_back(row.times.client);
    summary.first_token.push_back(row.times.first_token);
  }
  std::vector<std::vector<std::string>> table = {{"set", "replies end by", "arm", "requests",
                                                  "hits", "tokens reused", "same as cold",
                                                  "median ms", "median TTFT ms"}};
  for (const auto& [key, summary] : summaries) {
    table.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key),
                     absl::StrCat(summary.requests), absl::StrCat(summary.hits),
                     absl::StrCat(summary.reused),
                     absl::StrCat(summary.same, "/", summary.requests), MedianText(summary.client),
                     MedianText(summary.first_token)});
  }
  return FormatTable(table);
}

}  // namespace reprise::client
