// Logger: one line per event, JSON or text, written by a thread of its own. A
// slow or full destination loses lines, counted, and never holds up a caller.
//
// Threading  every method is safe from any thread and does not block.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/telemetry/metrics.h"

namespace reprise {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  bool json = true;  // false: for people
  std::string file;  // empty: standard error
  size_t queue_lines = 8192;
};

using LogValue = std::variant<std::string, int64_t, double, bool>;
using LogFields = std::vector<std::pair<std::string, LogValue>>;

class Logger {
 public:
  // kUnavailable: the file cannot be opened (it is named).
  static absl::StatusOr<std::unique_ptr<Logger>> Create(const LogOptions& options,
                                                        Metrics* metrics);
  ~Logger();  // writes what is queued

  void Write(LogLevel level, absl::string_view event, const LogFields& fields);
  void Info(absl::string_view event, const LogFields& fields = {}) {
    Write(LogLevel::kInfo, event, fields);
  }
  void Warning(absl::string_view event, const LogFields& fields = {}) {
    Write(LogLevel::kWarning, event, fields);
  }
  void Error(absl::string_view event, const LogFields& fields = {}) {
    Write(LogLevel::kError, event, fields);
  }

  // The line of one RPC; never any prompt text.
  void Request(const RequestSummary& summary);

 private:
  struct Impl;
  explicit Logger(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace reprise
