// What the readers of traces share.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/load/trace_reader.h"

namespace reprise::client::load {

// Takes one line after another off a text, without its end.
class Lines {
 public:
  explicit Lines(absl::string_view text) : rest_(text) {}
  bool Next(absl::string_view& line);
  int64_t number() const { return number_; }  // of the last one, from 1

 private:
  absl::string_view rest_;
  int64_t number_ = 0;
};

// Notes or refuses what is malformed; `place` is a line's number or an element's.
class MalformedLog {
 public:
  MalformedLog(const TraceOptions& options, TraceFacts& facts) : options_(options), facts_(facts) {}

  // OK: go on without it.
  absl::Status Add(int64_t place, const absl::Status& problem);

 private:
  const TraceOptions& options_;
  TraceFacts& facts_;
};

// Most malformed lines that are named.
inline constexpr size_t kNamedLines = 20;

absl::StatusOr<std::unique_ptr<TraceSource>> ParseLengths(absl::string_view text,
                                                          const TraceOptions& options);
absl::StatusOr<std::unique_ptr<TraceSource>> ParseConversations(absl::string_view text,
                                                                const TraceOptions& options);

}  // namespace reprise::client::load
