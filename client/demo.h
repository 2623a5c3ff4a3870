// The paper's flow (arXiv 2512.11851) against a running server: warm the cache
// prompts, ask the extended prompts cold and warm, compare.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace reprise::client {

struct DemoOptions {
  std::string cache_prompts = "tests/data/paper/cache_prompts.csv";
  std::string test_prompts = "tests/data/paper/test_prompts.csv";
  int output_tokens = 32;  // per reply, end of text ignored
};

// One test prompt asked twice. Times in milliseconds, by the server's clock.
struct DemoRow {
  std::string label;
  int prompt_tokens = 0;
  int common_tokens = 0;  // longest prefix shared with a cached prompt
  int reused_tokens = 0;
  double similarity = 0;  // of the retrieved cached prompt
  double cold_first_token = 0;
  double warm_first_token = 0;
  double cold_total = 0;
  double warm_total = 0;
  bool same_output = false;

  // Reuse as deep as it can be: one token is always computed.
  bool ReusedAll() const { return reused_tokens > 0 && reused_tokens >= common_tokens - 1; }
};

struct DemoReport {
  std::vector<DemoRow> rows;  // the paper's test prompts
  DemoRow long_row;           // 544 tokens, 512 of them cached
};

// Runs the flow; progress goes to standard error. Errors as the client's calls,
// and kDeadlineExceeded when the cache does not settle within a minute.
absl::StatusOr<DemoReport> RunDemo(Client& client, const DemoOptions& options);

// The table of prompts and the rows of the paper's results table.
std::string DemoText(const DemoReport& report);

// Whether every row reused all it could and repeated the cold output.
bool DemoPassed(const DemoReport& report);

}  // namespace reprise::client
