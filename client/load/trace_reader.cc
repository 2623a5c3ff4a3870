#include "client/load/trace_reader.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/load/trace_parts.h"

namespace reprise::client::load {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 30;

}  // namespace

const std::vector<std::string>& TraceFormatNames() {
  static const auto* const names =
      new std::vector<std::string>{"mooncake", "azure", "burstgpt", "sharegpt", "messages"};
  return *names;
}

absl::StatusOr<TraceFormat> ParseTraceFormat(absl::string_view name) {
  const auto& names = TraceFormatNames();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<TraceFormat>(found - names.begin());
  return absl::InvalidArgumentError(
      absl::StrCat("--trace-format: \"", name, "\", expected one of ", absl::StrJoin(names, ", ")));
}

bool Lines::Next(absl::string_view& line) {
  if (rest_.empty()) return false;
  const size_t end = rest_.find('\n');
  line = rest_.substr(0, end);
  rest_ = end == absl::string_view::npos ? absl::string_view() : rest_.substr(end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  ++number_;
  return true;
}

absl::Status MalformedLog::Add(int64_t place, const absl::Status& problem) {
  const std::string text = absl::StrCat(options_.name, ":", place, ": ", problem.message());
  if (options_.refuse_malformed) return absl::InvalidArgumentError(text);
  ++facts_.malformed_count;
  if (facts_.malformed.size() < kNamedLines) facts_.malformed.push_back(text);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TraceSource>> ParseTrace(absl::string_view text,
                                                        const TraceOptions& options) {
  const bool conversations =
      options.format == TraceFormat::kShareGpt || options.format == TraceFormat::kMessages;
  auto source = conversations ? ParseConversations(text, options) : ParseLengths(text, options);
  if (source.ok() && (*source)->facts().requests == 0) {
    const auto& malformed = (*source)->facts().malformed;
    return absl::InvalidArgumentError(
        absl::StrCat(options.name, ": no usable request",
                     malformed.empty() ? "" : absl::StrCat("; ", malformed[0])));
  }
  return source;
}

absl::StatusOr<std::unique_ptr<TraceSource>> ReadTrace(const std::string& path,
                                                       TraceOptions options) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return absl::NotFoundError(absl::StrCat("--trace: cannot open ", path));
  const auto bytes = static_cast<int64_t>(file.tellg());
  if (bytes < 0 || bytes > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--trace: ", path, " is larger than the limit of ", kMaxBytes, " bytes"));
  }
  file.seekg(0);
  std::string text(static_cast<size_t>(bytes), '\0');
  if (!file.read(text.data(), bytes)) {
    return absl::NotFoundError(absl::StrCat("--trace: cannot read ", path));
  }
  options.name = path;
  return ParseTrace(text, options);
}

}  // namespace reprise::client::load
