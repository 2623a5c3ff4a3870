#include "client/load/record.h"

#include "client/format.h"
#include "client/load/json_writer.h"
#include "core/base/json.h"

namespace reprise::client::load {
namespace {

using inference::v1::Generation;

// Adds what `get` finds in the reply, or null.
template <typename Get>
void AddOfReply(JsonObject& object, absl::string_view key, const RequestRecord& record, Get get) {
  if (record.reply) {
    object.Add(key, get(*record.reply));
  } else {
    object.AddRaw(key, "null");
  }
}

void AddPlan(const RequestRecord& r, JsonObject& object) {
  object.Add("index", r.index)
      .Add("request_id", r.request_id)
      .Add("session", r.session)
      .Add("turn", r.turn)
      .Add("label", r.label)
      .Add("channel", r.channel)
      .Add("measured", r.measured)
      .Add("scheduled_seconds", r.scheduled)
      .Add("sent_seconds", r.sent);
  const bool tokens = !r.chunk_times.empty();
  object.Add("first_token_seconds", tokens ? std::optional(r.chunk_times.front()) : std::nullopt)
      .Add("last_token_seconds", tokens ? std::optional(r.chunk_times.back()) : std::nullopt)
      .Add("finished_seconds", r.finished)
      .Add("code", r.code)
      .Add("error", r.error)
      .Add("cancel_planned", r.cancel_planned)
      .Add("cancelled", r.cancelled)
      .Add("aborted", r.aborted);
  object.Add(
      "finish_reason",
      r.reply ? EnumLabel(FinishReason_Name(r.reply->finish_reason()), "FINISH_REASON_") : "");
  object.Add("asked_prompt_token_count", r.asked_prompt_tokens)
      .Add("asked_output_token_count", r.asked_output_tokens)
      .Add("received_token_count", r.received_tokens)
      .Add("chunk_count", static_cast<int64_t>(r.chunk_times.size()));
}

void AddCounts(const RequestRecord& r, JsonObject& object) {
  const auto usage = [&](absl::string_view key, auto get) {
    AddOfReply(object, key, r, [&](const Generation& g) { return int64_t{get(g.usage())}; });
  };
  usage("prompt_token_count", [](const auto& u) { return u.prompt_token_count(); });
  usage("cached_token_count", [](const auto& u) { return u.cached_token_count(); });
  usage("computed_token_count", [](const auto& u) { return u.computed_token_count(); });
  usage("output_token_count", [](const auto& u) { return u.output_token_count(); });
  usage("draft_token_count", [](const auto& u) { return u.draft_token_count(); });
  usage("accepted_token_count", [](const auto& u) { return u.accepted_token_count(); });
  const auto reuse = [&](absl::string_view key, auto get) {
    AddOfReply(object, key, r, [&](const Generation& g) { return int64_t{get(g.reuse())}; });
  };
  reuse("ideal_token_count", [](const auto& u) { return u.ideal_token_count(); });
  reuse("device_token_count", [](const auto& u) { return u.device_token_count(); });
  reuse("host_token_count", [](const auto& u) { return u.host_token_count(); });
  reuse("disk_token_count", [](const auto& u) { return u.disk_token_count(); });
  reuse("in_flight_token_count", [](const auto& u) { return u.in_flight_token_count(); });
  reuse("split_token_count", [](const auto& u) { return u.split_token_count(); });
  reuse("disk_read_bytes", [](const auto& u) { return u.disk_read_bytes(); });
}

void AddReuse(const RequestRecord& r, JsonObject& object) {
  const inference::v1::Reuse none;
  const auto& u = r.reply ? r.reply->reuse() : none;
  const auto label = [&](absl::string_view name, absl::string_view prefix) {
    return r.reply ? EnumLabel(name, prefix) : std::string();
  };
  object.Add("retrieval_mode", label(RetrievalMode_Name(u.retrieval_mode()), "RETRIEVAL_MODE_"))
      .Add("decision", label(ReuseDecision_Name(u.decision()), "REUSE_DECISION_"))
      .Add("reason", label(ReuseReason_Name(u.reason()), "REUSE_REASON_"))
      .Add("miss_reason", label(MissReason_Name(u.miss_reason()), "MISS_REASON_"))
      .Add("candidate_status",
           label(CandidateStatus_Name(u.candidate_status()), "CANDIDATE_STATUS_"))
      .Add("disk_codec", u.disk_codec());
  const bool found = u.candidate_status() == inference::v1::CANDIDATE_STATUS_FOUND;
  object.Add("candidate_similarity",
             found ? std::optional<double>(u.candidate().similarity()) : std::nullopt);
  AddOfReply(object, "entry_age_seconds", r,
             [](const Generation& g) { return Milliseconds(g.reuse().entry_age()) / 1000; });
  AddOfReply(object, "exact", r, [](const Generation& g) { return g.reuse().exact(); });
}

void AddClientTimes(const RequestRecord& r, JsonObject& object) {
  object.Add("client_ttft_ms", ClientTtft(r))
      .Add("client_ttft_scheduled_ms", ClientTtftScheduled(r))
      .Add("client_e2e_ms", (r.finished - r.sent) * 1000)
      .Add("client_e2e_scheduled_ms", (r.finished - r.scheduled) * 1000)
      .Add("client_tpot_ms", ClientTpot(r))
      .Add("send_delay_ms", (r.sent - r.scheduled) * 1000);
  JsonList gaps;
  for (const double gap : InterChunkGaps(r)) gaps.Add(JsonNumber(gap));
  object.AddRaw("inter_chunk_ms", gaps.Text());
}

void AddServerTimes(const RequestRecord& r, JsonObject& object) {
  const auto timing = [&](absl::string_view key, auto get) {
    AddOfReply(object, key, r, [&](const Generation& g) { return Milliseconds(get(g.timings())); });
  };
  timing("server_queue_ms", [](const auto& t) { return t.queue(); });
  timing("server_tokenize_ms", [](const auto& t) { return t.tokenize(); });
  timing("server_lookup_ms", [](const auto& t) { return t.lookup(); });
  timing("server_shared_wait_ms", [](const auto& t) { return t.shared_wait(); });
  timing("server_load_ms", [](const auto& t) { return t.load(); });
  timing("server_prefill_ms", [](const auto& t) { return t.prefill(); });
  timing("server_ttft_ms", [](const auto& t) { return t.time_to_first_token(); });
  timing("server_decode_ms", [](const auto& t) { return t.decode(); });
  timing("server_total_ms", [](const auto& t) { return t.total(); });
  const auto reuse = [&](absl::string_view key, auto get) {
    AddOfReply(object, key, r, [&](const Generation& g) { return Milliseconds(get(g.reuse())); });
  };
  reuse("predicted_load_ms", [](const auto& u) { return u.predicted_load(); });
  reuse("predicted_prefill_ms", [](const auto& u) { return u.predicted_prefill(); });
  reuse("predicted_cold_prefill_ms", [](const auto& u) { return u.predicted_cold_prefill(); });
  reuse("predicted_total_ms", [](const auto& u) { return u.predicted_total(); });
  reuse("actual_load_ms", [](const auto& u) { return u.actual_load(); });
}

}  // namespace

std::optional<double> ClientTtft(const RequestRecord& record) {
  if (record.chunk_times.empty()) return std::nullopt;
  return (record.chunk_times.front() - record.sent) * 1000;
}

std::optional<double> ClientTtftScheduled(const RequestRecord& record) {
  if (record.chunk_times.empty()) return std::nullopt;
  return (record.chunk_times.front() - record.scheduled) * 1000;
}

std::optional<double> ClientTpot(const RequestRecord& record) {
  if (record.chunk_times.empty() || record.received_tokens < 2) return std::nullopt;
  return (record.chunk_times.back() - record.chunk_times.front()) * 1000 /
         static_cast<double>(record.received_tokens - 1);
}

std::vector<double> InterChunkGaps(const RequestRecord& record) {
  std::vector<double> gaps;
  for (size_t i = 1; i < record.chunk_times.size(); ++i) {
    gaps.push_back((record.chunk_times[i] - record.chunk_times[i - 1]) * 1000);
  }
  return gaps;
}

std::string RecordJson(const RequestRecord& record) {
  JsonObject object;
  AddPlan(record, object);
  AddCounts(record, object);
  AddReuse(record, object);
  AddClientTimes(record, object);
  AddServerTimes(record, object);
  return object.Text();
}

}  // namespace reprise::client::load
