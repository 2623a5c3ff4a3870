#include "client/report/run_files.h"

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise::client {
namespace {

// The number under `key`; nothing when it is absent or null.
absl::StatusOr<std::optional<double>> NumberAt(const JsonValue& line, const char* key) {
  if (!line.Has(key)) return std::optional<double>();
  ASSIGN_OR_RETURN(const JsonValue value, line.Get(key));
  ASSIGN_OR_RETURN(const double number, value.AsDouble());
  return std::optional<double>(number);
}

absl::StatusOr<std::optional<int64_t>> CountAt(const JsonValue& line, const char* key) {
  if (!line.Has(key)) return std::optional<int64_t>();
  ASSIGN_OR_RETURN(const JsonValue value, line.Get(key));
  ASSIGN_OR_RETURN(const int64_t count, value.AsInt());
  if (count < 0) return absl::InvalidArgumentError(absl::StrCat(key, ": ", count, ", at least 0"));
  return std::optional<int64_t>(count);
}

absl::Status ReadGaps(const JsonValue& line, std::vector<double>& gaps) {
  if (!line.Has("inter_chunk_ms")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonValue list, line.Get("inter_chunk_ms"));
  gaps.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    ASSIGN_OR_RETURN(const JsonValue value, list.At(i));
    ASSIGN_OR_RETURN(const double gap, value.AsDouble());
    gaps.push_back(gap);
  }
  return absl::OkStatus();
}

absl::Status ReadTexts(const JsonValue& line, RequestRecord& record) {
  ASSIGN_OR_RETURN(record.request_id, line.StringOr("request_id", ""));
  ASSIGN_OR_RETURN(record.label, line.StringOr("label", ""));
  ASSIGN_OR_RETURN(record.code, line.StringOr("code", ""));
  ASSIGN_OR_RETURN(record.measured, line.BoolOr("measured", true));
  return absl::OkStatus();
}

absl::StatusOr<RequestRecord> ParseRequest(const std::string& text) {
  ASSIGN_OR_RETURN(const JsonValue line, JsonValue::Parse(text));
  if (line.kind() != JsonValue::Kind::kObject) {
    return absl::InvalidArgumentError("not a JSON object");
  }
  RequestRecord record;
  ASSIGN_OR_RETURN(record.index, line.IntOr("index", 0));
  RETURN_IF_ERROR(ReadTexts(line, record));
  const std::pair<const char*, std::optional<double>*> numbers[] = {
      {"finished_seconds", &record.finished_seconds},
      {"client_ttft_ms", &record.client_ttft_ms},
      {"client_e2e_ms", &record.client_e2e_ms},
      {"server_ttft_ms", &record.server_ttft_ms},
      {"server_load_ms", &record.server_load_ms},
      {"server_prefill_ms", &record.server_prefill_ms},
      {"predicted_total_ms", &record.predicted_total_ms},
      {"predicted_cold_prefill_ms", &record.predicted_cold_prefill_ms}};
  for (const auto& [key, field] : numbers) {
    ASSIGN_OR_RETURN(*field, NumberAt(line, key));
  }
  const std::pair<const char*, std::optional<int64_t>*> counts[] = {
      {"session", &record.session},
      {"turn", &record.turn},
      {"prompt_token_count", &record.prompt_tokens},
      {"cached_token_count", &record.cached_tokens},
      {"computed_token_count", &record.computed_tokens},
      {"output_token_count", &record.output_tokens},
      {"device_token_count", &record.device_tokens},
      {"host_token_count", &record.host_tokens},
      {"disk_token_count", &record.disk_tokens}};
  for (const auto& [key, field] : counts) {
    ASSIGN_OR_RETURN(*field, CountAt(line, key));
  }
  RETURN_IF_ERROR(ReadGaps(line, record.inter_chunk_ms));
  return record;
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file.good()) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  const int64_t bytes = file.tellg();
  if (bytes > kMaxRunBytes) {
    return absl::OutOfRangeError(absl::StrCat(path, ": ", bytes, " bytes, at most ", kMaxRunBytes));
  }
  file.seekg(0);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

absl::StatusOr<JsonValue> ParseRunJson(const std::string& text, const std::string& name) {
  auto parsed = JsonValue::Parse(text);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", parsed.status().message()));
  }
  if (parsed->kind() != JsonValue::Kind::kObject) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not a JSON object"));
  }
  const auto version = parsed->IntOr("format_version", 0);
  if (!version.ok() || *version != kFormatVersion) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": format_version is ", version.ok() ? absl::StrCat(*version) : "no number",
        ", this program reads ", kFormatVersion));
  }
  if (!parsed->Has("summary")) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": no summary"));
  }
  return parsed;
}

absl::Status ParseRequests(std::istream& lines, const std::string& name,
                           std::vector<RequestRecord>& requests) {
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (static_cast<int64_t>(line.size()) > kMaxLineBytes || number > kMaxRequests) {
      return absl::OutOfRangeError(absl::StrCat(name, ":", number, ": at most ", kMaxRequests,
                                                " lines of ", kMaxLineBytes, " bytes"));
    }
    if (line.empty()) continue;
    auto record = ParseRequest(line);
    if (!record.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ":", number, ": ", record.status().message()));
    }
    requests.push_back(*std::move(record));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoadRun> ParseRun(const std::string& folder, const std::string& run_json,
                                 std::istream& requests) {
  ASSIGN_OR_RETURN(JsonValue run, ParseRunJson(run_json, folder + "/run.json"));
  LoadRun read{folder, std::move(run), {}};
  RETURN_IF_ERROR(ParseRequests(requests, folder + "/requests.jsonl", read.requests));
  return read;
}

absl::StatusOr<LoadRun> ReadRun(const std::string& folder) {
  ASSIGN_OR_RETURN(const std::string run_json, ReadSmallFile(folder + "/run.json"));
  std::ifstream requests(folder + "/requests.jsonl", std::ios::binary);
  if (!requests.good()) {
    return absl::NotFoundError(absl::StrCat(folder, "/requests.jsonl: cannot be read"));
  }
  return ParseRun(folder, run_json, requests);
}

}  // namespace reprise::client
