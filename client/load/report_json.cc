#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "client/load/json_writer.h"
#include "client/load/report.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"

namespace reprise::client::load {
namespace {

const char* EndName(RunEnd end) {
  switch (end) {
    case RunEnd::kDuration:
      return "duration";
    case RunEnd::kInterrupted:
      return "interrupted";
    default:
      return "complete";
  }
}

template <typename Map>
JsonObject MapJson(const Map& map) {
  JsonObject object;
  for (const auto& [name, value] : map) object.Add(name, value);
  return object;
}

JsonObject ServerJson(const RunReport& report) {
  const auto& m = report.model;
  JsonObject object;
  object.Add("address", report.address)
      .Add("name", m.name())
      .Add("architecture", m.architecture())
      .Add("context_length", m.context_length())
      .Add("vocabulary_size", m.vocabulary_size())
      .Add("weight_dtype", m.weight_dtype())
      .Add("kv_dtype", m.kv_dtype())
      .Add("numerics_id", m.numerics_id())
      .Add("cache_identity", m.cache_identity())
      .Add("chat_format", m.chat_format())
      .Add("device", m.device());
  return object;
}

JsonObject WorkloadJson(const WorkloadFacts& workload) {
  JsonList notes;
  for (const std::string& note : workload.notes) notes.Add(JsonQuote(note));
  JsonObject object;
  object.Add("kind", workload.kind)
      .Add("name", workload.name)
      .Add("file", workload.file)
      .Add("malformed_line_count", workload.malformed_count)
      .Add("clipped_prompt_count", workload.clipped_count)
      .AddRaw("notes", notes.Text());
  return object;
}

void AddDistribution(JsonObject& to, const char* subset, const std::optional<Distribution>& d) {
  if (!d) {
    to.AddRaw(subset, "null");
    return;
  }
  JsonObject object;
  object.Add("count", d->count);
  for (const auto& [name, value] : Statistics(*d)) object.Add(name, value);
  to.Add(subset, object);
}

JsonObject LatencyJson(const std::vector<Latency>& latencies) {
  JsonObject all;
  for (const Latency& latency : latencies) {
    JsonObject one;
    one.Add("formula", latency.formula).Add("unit", "ms");
    AddDistribution(one, "all", latency.all);
    AddDistribution(one, "warm", latency.warm);
    AddDistribution(one, "cold", latency.cold);
    all.Add(latency.name, one);
  }
  return all;
}

std::string TimelineJson(const std::vector<Second>& timeline) {
  JsonList list;
  for (size_t i = 0; i < timeline.size(); ++i) {
    const Second& s = timeline[i];
    JsonObject object;
    object.Add("second", static_cast<int64_t>(i))
        .Add("scheduled_count", s.scheduled)
        .Add("sent_count", s.sent)
        .Add("completed_count", s.completed)
        .Add("failed_count", s.failed)
        .Add("cancelled_count", s.cancelled)
        .Add("in_flight", s.in_flight)
        .Add("output_token_count", s.output_tokens)
        .Add("prompt_token_count", s.prompt_tokens)
        .Add("cached_token_count", s.cached_tokens)
        .Add("client_ttft_p50_ms", s.ttft_p50_ms)
        .Add("client_ttft_p99_ms", s.ttft_p99_ms);
    list.Add(object.Text());
  }
  return list.Text();
}

std::string SloJson(const std::vector<SloResult>& results) {
  JsonList list;
  for (const auto& [slo, measured, met] : results) {
    JsonObject object;
    object.Add("expression", slo.expression)
        .Add("name", slo.name)
        .Add("statistic", slo.statistic)
        .Add("relation", slo.at_most ? "<=" : ">=")
        .Add("limit", slo.limit)
        .Add("unit", slo.unit)
        .Add("measured", measured)
        .Add("met", met);
    list.Add(object.Text());
  }
  return list.Text();
}

std::string WarningsJson(const std::vector<Warning>& warnings) {
  JsonList list;
  for (const Warning& one : warnings) {
    JsonObject object;
    list.Add(object.Add("code", one.code).Add("message", one.message).Text());
  }
  return list.Text();
}

JsonObject SummaryJson(const RunReport& report) {
  const Summary& s = report.summary;
  JsonObject object;
  object.Add("totals", MapJson(s.totals))
      .Add("codes", MapJson(s.codes))
      .Add("finish_reasons", MapJson(s.finish_reasons))
      .Add("decisions", MapJson(s.decisions))
      .Add("reasons", MapJson(s.reasons))
      .Add("miss_reasons", MapJson(s.miss_reasons))
      .Add("errors", MapJson(s.errors))
      .Add("rates", MapJson(s.rates))
      .Add("latency", LatencyJson(s.latencies))
      .AddRaw("timeline", TimelineJson(s.timeline))
      .AddRaw("slo", SloJson(report.slos))
      .AddRaw("warnings", WarningsJson(report.warnings));
  return object;
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.flush();
  if (file) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("--output: cannot write ", path));
}

}  // namespace

std::string RunJson(const RunReport& report) {
  JsonObject object;
  object.Add("format_version", 1)
      .Add("tool_version", report.tool_version)
      .Add("started_at",
           absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", report.started_at, absl::UTCTimeZone()))
      .Add("wall_seconds", report.outcome.wall_seconds)
      .Add("ended", EndName(report.outcome.end))
      .Add("command_line", report.command_line)
      .AddRaw("options", report.options_json)
      .Add("server", ServerJson(report))
      .Add("workload", WorkloadJson(report.workload))
      .Add("summary", SummaryJson(report));
  return object.Text();
}

std::string SummaryCsv(const Summary& summary) {
  std::string csv = "name,subset,unit,count,mean,stddev,min,p50,p75,p90,p95,p99,p999,max,formula\n";
  for (const Latency& latency : summary.latencies) {
    for (const auto& [subset, d] : {std::pair{"all", latency.all}, std::pair{"warm", latency.warm},
                                    std::pair{"cold", latency.cold}}) {
      if (!d) continue;
      absl::StrAppend(&csv, latency.name, ",", subset, ",ms,", d->count);
      for (const auto& [name, value] : Statistics(*d))
        absl::StrAppend(&csv, ",", JsonNumber(value));
      absl::StrAppend(&csv, ",\"", latency.formula, "\"\n");
    }
  }
  for (const auto& [name, value] : summary.totals) {
    absl::StrAppend(&csv, name, ",total,,", value, ",,,,,,,,,,,\n");
  }
  for (const auto& [name, value] : summary.rates) {
    absl::StrAppend(&csv, name, ",total,,", value ? JsonNumber(*value) : "", ",,,,,,,,,,,\n");
  }
  return csv;
}

absl::Status MakeFolder(const std::string& folder) {
  if (mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(
        absl::StrCat("--output: cannot make ", folder, ": ", strerror(errno)));
  }
  if (std::ifstream(folder + "/run.json")) {
    return absl::AlreadyExistsError(
        absl::StrCat("--output: ", folder, " holds a run already; name another folder"));
  }
  return absl::OkStatus();
}

absl::Status WriteFiles(const std::string& folder, const RunReport& report,
                        const std::vector<RequestRecord>& records) {
  std::ofstream lines(folder + "/requests.jsonl", std::ios::binary | std::ios::trunc);
  for (const RequestRecord& record : records) lines << RecordJson(record) << '\n';
  lines.flush();
  if (!lines) {
    return absl::FailedPreconditionError(
        absl::StrCat("--output: cannot write ", folder, "/requests.jsonl"));
  }
  RETURN_IF_ERROR(WriteFile(folder + "/summary.csv", SummaryCsv(report.summary)));
  return WriteFile(folder + "/run.json", RunJson(report) + "\n");
}

}  // namespace reprise::client::load
