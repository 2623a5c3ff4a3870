// Reads what `reprise bench --output FOLDER` wrote (docs/bench.md): run.json and requests.jsonl.
//
// The files may come from anyone: sizes are bounded, and numbers are checked before use.
// Errors  kNotFound: no such file; kInvalidArgument naming file, line and field; kOutOfRange: a
//         file or a line over its limit.
#pragma once

#include <cstdint>
#include <istream>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/json.h"

namespace reprise::client {

inline constexpr int64_t kFormatVersion = 1;
inline constexpr int64_t kMaxRunBytes = int64_t{64} << 20;   // run.json
inline constexpr int64_t kMaxLineBytes = int64_t{16} << 20;  // a line of requests.jsonl
inline constexpr int64_t kMaxRequests = 5'000'000;

// One request; what it never came to is absent. Times are in milliseconds or, where the name says
// so, seconds since the start of the run.
struct RequestRecord {
  int64_t index = 0;
  std::string request_id, label, code;
  bool measured = true;
  std::optional<int64_t> session, turn;  // the turn of the session, in the source's order
  std::optional<double> finished_seconds;
  std::optional<double> client_ttft_ms, client_e2e_ms, server_ttft_ms;
  std::optional<double> server_load_ms, server_prefill_ms;
  std::optional<double> predicted_total_ms, predicted_cold_prefill_ms;
  std::optional<int64_t> prompt_tokens, cached_tokens, computed_tokens, output_tokens;
  std::optional<int64_t> device_tokens, host_tokens, disk_tokens;
  std::vector<double> inter_chunk_ms;

  bool completed() const { return code == "OK" && cached_tokens.has_value(); }
  bool warm() const { return completed() && *cached_tokens > 0; }
  bool cold() const { return completed() && *cached_tokens == 0; }
};

struct LoadRun {
  std::string folder;
  JsonValue run;  // run.json
  std::vector<RequestRecord> requests;
};

absl::StatusOr<LoadRun> ReadRun(const std::string& folder);

// The same from texts; `folder` is what errors call them by.
absl::StatusOr<LoadRun> ParseRun(const std::string& folder, const std::string& run_json,
                                 std::istream& requests);

}  // namespace reprise::client
