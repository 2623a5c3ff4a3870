#include "client/format.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace reprise::client {
namespace {

using inference::v1::Candidate;
using inference::v1::Generation;

std::string Labels(const inference::v1::Reuse& reuse) {
  std::string text = EnumLabel(ReuseDecision_Name(reuse.decision()), "REUSE_DECISION_");
  if (reuse.decision() == inference::v1::REUSE_DECISION_MISS) {
    return absl::StrCat(text, "/", EnumLabel(MissReason_Name(reuse.miss_reason()), "MISS_REASON_"));
  }
  return absl::StrCat(text, "/", EnumLabel(ReuseReason_Name(reuse.reason()), "REUSE_REASON_"));
}

std::string CandidateText(const Candidate& candidate) {
  return absl::StrFormat("prompt %d, similarity %.3f, %d common tokens", candidate.prompt_id(),
                         candidate.similarity(), candidate.common_token_count());
}

// Empty when nothing was drafted.
std::string SpeculationText(const inference::v1::Usage& usage) {
  if (usage.draft_token_count() == 0) return "";
  return absl::StrFormat(" (%d of %d drafted accepted)", usage.accepted_token_count(),
                         usage.draft_token_count());
}

// White space shows, so that a space too many can be seen.
std::string Quoted(const std::string& text) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(text), "\"");
}

std::string SideText(bool has_token, const std::string& token, const std::string& after) {
  if (!has_token) return "ends here";
  return after.empty() ? Quoted(token) : absl::StrCat(Quoted(token), ", then ", Quoted(after));
}

double MebiBytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

double Milliseconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) * 1e3 + duration.nanos() / 1e6;
}

std::string EnumLabel(absl::string_view name, absl::string_view prefix) {
  return std::string(absl::StripPrefix(name, prefix));
}

std::string SummaryLine(const Generation& generation) {
  const auto& usage = generation.usage();
  const auto& reuse = generation.reuse();
  const auto& timings = generation.timings();
  const double per_token = usage.output_token_count() > 1
                               ? Milliseconds(timings.decode()) / (usage.output_token_count() - 1)
                               : 0.0;
  return absl::StrFormat(
      "reuse %d of %d prompt tokens (device %d, host %d, disk %d) %s | queue %.1f, lookup %.1f, "
      "load %.1f, prefill %.1f, first token %.1f, total %.1f ms | %d tokens out, %.1f ms each%s | "
      "%s",
      usage.cached_token_count(), usage.prompt_token_count(), reuse.device_token_count(),
      reuse.host_token_count(), reuse.disk_token_count(), Labels(reuse),
      Milliseconds(timings.queue()), Milliseconds(timings.lookup()), Milliseconds(timings.load()),
      Milliseconds(timings.prefill()), Milliseconds(timings.time_to_first_token()),
      Milliseconds(timings.total()), usage.output_token_count(), per_token, SpeculationText(usage),
      EnumLabel(FinishReason_Name(generation.finish_reason()), "FINISH_REASON_"));
}

std::string ExplanationText(const inference::v1::ExplainPromptResponse& explanation) {
  std::string text = absl::StrFormat(
      "prompt          %d tokens\nreusable        %d from memory, %d with the store (ideal %d)\n"
      "decision        %s, %s\n",
      explanation.prompt_token_count(), explanation.host_token_count(),
      explanation.disk_token_count(), explanation.ideal_token_count(),
      EnumLabel(ReuseDecision_Name(explanation.decision()), "REUSE_DECISION_"),
      EnumLabel(ReuseReason_Name(explanation.reason()), "REUSE_REASON_"));
  absl::StrAppendFormat(
      &text, "predicted       cold %.1f ms, warm %.1f ms: load %.1f ms (%.1f MiB in the store)\n",
      Milliseconds(explanation.predicted_cold_prefill()),
      Milliseconds(explanation.predicted_warm_prefill()),
      Milliseconds(explanation.predicted_load()), MebiBytes(explanation.load_bytes()));
  if (explanation.miss_reason() != inference::v1::MISS_REASON_NONE) {
    absl::StrAppend(&text, "miss            ",
                    EnumLabel(MissReason_Name(explanation.miss_reason()), "MISS_REASON_"), "\n");
  }
  if (explanation.has_nearest()) {
    absl::StrAppend(&text, "nearest cached  ", CandidateText(explanation.nearest()), "\n");
  }
  if (explanation.has_divergence()) {
    const auto& d = explanation.divergence();
    absl::StrAppendFormat(&text, "diverges        at token %d, after %s\n", d.position(),
                          Quoted(d.context_before()));
    absl::StrAppend(
        &text, "  this prompt   ",
        SideText(d.has_prompt_token_id(), d.prompt_token_text(), d.prompt_context_after()),
        "\n  cached        ",
        SideText(d.has_cached_token_id(), d.cached_token_text(), d.cached_context_after()), "\n");
  }
  return text;
}

std::string StatsText(const admin::v1::GetCacheStatsResponse& stats) {
  const auto& host = stats.host();
  const auto& disk = stats.disk();
  std::string text = absl::StrFormat(
      "memory      %d of %d blocks cached, %d free, %.1f MiB, %d tokens\n",
      host.cached_block_count(), host.block_count(), host.free_block_count(),
      MebiBytes(host.cached_block_count() * host.block_bytes()), host.cached_token_count());
  absl::StrAppendFormat(
      &text, "store       %s, %d segments, %.1f MiB live, %.1f MiB on disk, %d tokens\n",
      disk.enabled() ? "on" : "off", disk.segment_count(), MebiBytes(disk.payload_bytes()),
      MebiBytes(disk.disk_bytes()), disk.cached_token_count());
  absl::StrAppendFormat(&text,
                        "            %d durable since start, %d pending, %.1f MiB read, %.1f MiB "
                        "written, %d corrupt\n",
                        disk.durable_segment_count(), disk.pending_segment_count(),
                        MebiBytes(disk.read_bytes()), MebiBytes(disk.written_bytes()),
                        disk.corrupt_segment_count());
  absl::StrAppendFormat(&text,
                        "similarity  %d vectors, %d prompts\nrequests    %d running, %d queued\n",
                        stats.similarity().vector_count(), stats.similarity().prompt_count(),
                        stats.running_sequence_count(), stats.queued_request_count());
  return text;
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  // Only a malformed Any can fail here, and these messages hold none.
  if (!google::protobuf::util::MessageToJsonString(message, &json, options).ok()) return "{}";
  return json;
}

std::string Printable(absl::string_view text) {
  std::string out;
  for (const char c : text) out += absl::ascii_iscntrl(static_cast<unsigned char>(c)) ? ' ' : c;
  return out;
}

std::string FormatTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t i = 0; i < rows[r].size(); ++i) {
      const int width = static_cast<int>(widths[i]);
      const std::string cell = Printable(rows[r][i]);
      absl::StrAppend(&text, i == 0 ? absl::StrFormat("%-*s", width, cell)
                                    : absl::StrFormat("  %*s", width, cell));
    }
    absl::StrAppend(&text, "\n");
    if (r > 0) continue;
    for (size_t i = 0; i < widths.size(); ++i) {
      absl::StrAppend(&text, i == 0 ? "" : "  ", std::string(widths[i], '-'));
    }
    absl::StrAppend(&text, "\n");
  }
  return text;
}

}  // namespace reprise::client
