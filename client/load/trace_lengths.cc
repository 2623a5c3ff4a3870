// Traces that tell lengths and times: Mooncake, Azure, BurstGPT.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/csv.h"
#include "client/load/random.h"
#include "client/load/trace_parts.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"

namespace reprise::client::load {
namespace {

constexpr int kMooncakeBlock = 512;
constexpr int64_t kMaxTokens = 100'000'000;

struct Row {
  double seconds = 0;
  int64_t input = 0;
  int64_t output = 0;
  std::vector<int64_t> blocks;         // mooncake
  std::optional<std::string> session;  // burstgpt
};

absl::Status CheckTokens(absl::string_view name, int64_t value, int64_t least) {
  if (value >= least && value <= kMaxTokens) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", value, ", must be in [", least, ", ", kMaxTokens, "]"));
}

absl::Status CheckSeconds(absl::string_view name, double value) {
  if (std::isfinite(value) && std::abs(value) < 1e12) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", value, ", must be below 1e12"));
}

absl::StatusOr<Row> ParseMooncake(absl::string_view line) {
  ASSIGN_OR_RETURN(const JsonValue object, JsonValue::Parse(line));
  Row row;
  ASSIGN_OR_RETURN(const JsonValue time, object.Get("timestamp"));
  ASSIGN_OR_RETURN(const double milliseconds, time.AsDouble());
  RETURN_IF_ERROR(CheckSeconds("timestamp", milliseconds));
  row.seconds = milliseconds / 1000;
  ASSIGN_OR_RETURN(const JsonValue input, object.Get("input_length"));
  ASSIGN_OR_RETURN(row.input, input.AsInt());
  ASSIGN_OR_RETURN(const JsonValue output, object.Get("output_length"));
  ASSIGN_OR_RETURN(row.output, output.AsInt());
  ASSIGN_OR_RETURN(const JsonValue ids, object.Get("hash_ids"));
  if (ids.kind() != JsonValue::Kind::kArray) {
    return absl::InvalidArgumentError("hash_ids: expected a list");
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSIGN_OR_RETURN(const JsonValue id, ids.At(i));
    ASSIGN_OR_RETURN(const int64_t value, id.AsInt());
    row.blocks.push_back(value);
  }
  RETURN_IF_ERROR(CheckTokens("input_length", row.input, 1));
  RETURN_IF_ERROR(CheckTokens("output_length", row.output, 0));
  return row;
}

// The columns of a CSV that are looked for, without regard to case.
class Columns {
 public:
  static absl::StatusOr<Columns> Find(const std::vector<std::string>& header,
                                      const TraceOptions& options) {
    Columns columns;
    const bool azure = options.format == TraceFormat::kAzure;
    columns.azure_ = azure;
    columns.width_ = header.size();
    const std::array<absl::string_view, 3> names =
        azure ? std::array<absl::string_view, 3>{"TIMESTAMP", "ContextTokens", "GeneratedTokens"}
              : std::array<absl::string_view, 3>{"Timestamp", "Request tokens", "Response tokens"};
    for (size_t i = 0; i < names.size(); ++i) {
      const auto at = IndexOf(header, names[i]);
      if (!at) {
        return absl::InvalidArgumentError(
            absl::StrCat(options.name, ":1: no column \"", names[i], "\""));
      }
      columns.at_[i] = *at;
    }
    columns.session_ = azure ? std::nullopt : IndexOf(header, "Session ID");
    return columns;
  }

  absl::StatusOr<Row> Parse(const std::vector<std::string>& fields) const {
    if (fields.size() != width_) {
      return absl::InvalidArgumentError(
          absl::StrCat(fields.size(), " fields, the header has ", width_));
    }
    Row row;
    ASSIGN_OR_RETURN(row.seconds, Seconds(fields[at_[0]]));
    ASSIGN_OR_RETURN(row.input, Tokens("prompt tokens", fields[at_[1]], 1));
    ASSIGN_OR_RETURN(row.output, Tokens("reply tokens", fields[at_[2]], 0));
    if (session_ && !fields[*session_].empty()) row.session = fields[*session_];
    return row;
  }

 private:
  static std::optional<size_t> IndexOf(const std::vector<std::string>& header,
                                       absl::string_view name) {
    for (size_t i = 0; i < header.size(); ++i) {
      absl::string_view field = absl::StripAsciiWhitespace(header[i]);
      if (i == 0 && field.substr(0, 3) == "\xEF\xBB\xBF") field.remove_prefix(3);
      if (absl::EqualsIgnoreCase(field, name)) return i;
    }
    return std::nullopt;
  }

  absl::StatusOr<double> Seconds(const std::string& field) const {
    double seconds = 0;
    if (azure_) {
      absl::Time time;
      std::string error;
      if (!absl::ParseTime("%Y-%m-%d%ET%H:%M:%E*S", field, &time, &error) &&
          !absl::ParseTime("%Y-%m-%d %H:%M:%E*S", field, &time, &error)) {
        return absl::InvalidArgumentError(
            absl::StrCat("TIMESTAMP: \"", field, "\", expected YYYY-MM-DD hh:mm:ss.s"));
      }
      seconds = absl::ToDoubleSeconds(time - absl::UnixEpoch());
    } else if (!absl::SimpleAtod(field, &seconds)) {
      return absl::InvalidArgumentError(
          absl::StrCat("Timestamp: \"", field, "\", expected seconds"));
    }
    RETURN_IF_ERROR(CheckSeconds("Timestamp", seconds));
    return seconds;
  }

  static absl::StatusOr<int64_t> Tokens(absl::string_view name, const std::string& field,
                                        int64_t least) {
    double value = 0;  // some files write 12.0
    if (!absl::SimpleAtod(field, &value) || !(std::abs(value) < 1e15) ||
        value != std::floor(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": \"", field, "\", expected a whole number"));
    }
    RETURN_IF_ERROR(CheckTokens(name, static_cast<int64_t>(value), least));
    return static_cast<int64_t>(value);
  }

  bool azure_ = false;
  size_t width_ = 0;
  std::array<size_t, 3> at_{};
  std::optional<size_t> session_;
};

// Makes each row's tokens when it is asked for, since all of them may be gigabytes.
class LengthSource final : public TraceSource {
 public:
  LengthSource(std::vector<Row> rows, TraceFacts facts, const TraceOptions& options)
      : options_(options), rows_(std::move(rows)) {
    facts_ = std::move(facts);
    const auto earlier = [](const Row& a, const Row& b) { return a.seconds < b.seconds; };
    std::stable_sort(rows_.begin(), rows_.end(), earlier);
    for (const Row& row : rows_) {
      const auto [input, output] = Fit(row);
      facts_.clipped += input < Scaled(row.input) || output < Scaled(row.output) ? 1 : 0;
    }
    facts_.requests = facts_.sessions = static_cast<int64_t>(rows_.size());
    facts_.timed = true;
  }

  std::optional<Session> Next() override {
    if (at_ >= rows_.size()) return std::nullopt;
    const Row& row = rows_[at_];
    Session session;
    session.start_seconds = row.seconds - rows_[0].seconds;
    if (row.session) session.label = absl::StrCat("session-", *row.session);
    const auto [input, output] = Fit(row);
    Turn turn;
    turn.output_tokens = output;
    turn.ids = Tokens(row, input);
    session.turns.push_back(std::move(turn));
    ++at_;
    return session;
  }

 private:
  int64_t Scaled(int64_t tokens) const {
    const double scaled = std::round(static_cast<double>(tokens) * options_.length_scale);
    return std::max<int64_t>(1, static_cast<int64_t>(std::min(scaled, 1e9)));
  }

  // Tokens of prompt and reply within the window.
  std::pair<int32_t, int32_t> Fit(const Row& row) const {
    const int32_t window = options_.context_length;
    const int64_t input = Scaled(row.input);
    int64_t output = Scaled(row.output);
    // Where one must be cut, the reply leaves the prompt most of the window.
    if (input + output > window) output = std::min<int64_t>(output, std::max(1, window / 4));
    const int64_t room = std::max<int64_t>(1, window - output);
    return {static_cast<int32_t>(std::min(input, room)), static_cast<int32_t>(output)};
  }

  std::vector<int32_t> Tokens(const Row& row, int32_t count) {
    std::vector<int32_t> ids;
    const auto block = static_cast<int32_t>(Scaled(kMooncakeBlock));
    for (size_t i = 0; i < row.blocks.size() && ids.size() < static_cast<size_t>(count); ++i) {
      Add(static_cast<uint64_t>(row.blocks[i]), std::min<int64_t>(block, count), ids);
    }
    if (row.session) Add(SessionSeed(*row.session), count, ids);
    // What no hash names is said by nobody else.
    const int64_t missing = count - static_cast<int64_t>(ids.size());
    if (missing > 0) Add(~static_cast<uint64_t>(at_), missing, ids);
    ids.resize(count);
    return ids;
  }

  void Add(uint64_t what, int64_t count, std::vector<int32_t>& ids) const {
    Random random(Random(options_.seed ^ (what * 0x9E3779B97F4A7C15)).Next());
    const auto made = random.Ids(static_cast<int>(count), options_.vocabulary_size);
    ids.insert(ids.end(), made.begin(), made.end());
  }

  uint64_t SessionSeed(const std::string& name) {
    return session_seeds_.try_emplace(name, 0x5E55ULL << 40 | session_seeds_.size()).first->second;
  }

  const TraceOptions options_;
  std::vector<Row> rows_;
  std::map<std::string, uint64_t> session_seeds_;
  size_t at_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TraceSource>> ParseLengths(absl::string_view text,
                                                          const TraceOptions& options) {
  TraceFacts facts;
  MalformedLog malformed(options, facts);
  Lines lines(text);
  absl::string_view line;
  std::optional<Columns> columns;
  if (options.format != TraceFormat::kMooncake) {
    ASSIGN_OR_RETURN(auto header, ParseCsvRow(lines.Next(line) ? line : ""));
    ASSIGN_OR_RETURN(columns, Columns::Find(header, options));
  }
  std::vector<Row> rows;
  while (lines.Next(line)) {
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    absl::StatusOr<Row> row = Row();
    if (columns) {
      const auto fields = ParseCsvRow(line);
      row = fields.ok() ? columns->Parse(*fields) : fields.status();
    } else {
      row = ParseMooncake(line);
    }
    if (row.ok()) {
      if (static_cast<int64_t>(rows.size()) >= options.max_rows) {
        return absl::InvalidArgumentError(absl::StrCat(options.name, ":", lines.number(),
                                                       ": more than the limit of ",
                                                       options.max_rows, " requests"));
      }
      rows.push_back(*std::move(row));
    } else {
      RETURN_IF_ERROR(malformed.Add(lines.number(), row.status()));
    }
  }
  return std::make_unique<LengthSource>(std::move(rows), std::move(facts), options);
}

}  // namespace reprise::client::load
