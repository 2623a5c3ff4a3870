#include "server/converters.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/text/incremental_text.h"

namespace reprise::server {
namespace {

namespace wire = inference::v1;

// The wire's enums follow the engine's, one later for UNSPECIFIED.
template <typename Wire, typename Engine>
Wire ToWire(Engine value) {
  return static_cast<Wire>(static_cast<int>(value) + 1);
}

// "REUSED" for REUSE_DECISION_REUSED.
std::string Label(const std::string& name, size_t prefix) { return name.substr(prefix); }

void SetDuration(absl::Duration from, google::protobuf::Duration* to) {
  absl::Duration rest;
  to->set_seconds(absl::IDivDuration(from, absl::Seconds(1), &rest));
  to->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

wire::CandidateStatus StatusOf(const Reuse& reuse) {
  if (!reuse.candidate_computed) return wire::CANDIDATE_STATUS_NOT_COMPUTED;
  return reuse.candidate ? wire::CANDIDATE_STATUS_FOUND : wire::CANDIDATE_STATUS_NONE;
}

void FillCandidate(const Candidate& from, wire::Candidate& to) {
  to.set_prompt_id(from.prompt_id);
  to.set_similarity(from.similarity);
  to.set_common_token_count(from.common_tokens);
  if (from.first_divergent_position)
    to.set_first_divergent_position(*from.first_divergent_position);
}

void FillTimings(const Timings& from, wire::Timings& to) {
  SetDuration(from.queue, to.mutable_queue());
  SetDuration(from.tokenize, to.mutable_tokenize());
  SetDuration(from.lookup, to.mutable_lookup());
  SetDuration(from.load, to.mutable_load());
  SetDuration(from.prefill, to.mutable_prefill());
  SetDuration(from.time_to_first_token, to.mutable_time_to_first_token());
  SetDuration(from.decode, to.mutable_decode());
  SetDuration(from.total, to.mutable_total());
  SetDuration(from.shared_wait, to.mutable_shared_wait());
}

void FillReuse(const Reuse& from, const ModelFacts& facts, wire::Reuse& to) {
  to.set_retrieval_mode(ToWire<wire::RetrievalMode>(from.mode));
  to.set_decision(ToWire<wire::ReuseDecision>(from.decision));
  to.set_reason(ToWire<wire::ReuseReason>(from.reason));
  to.set_miss_reason(ToWire<wire::MissReason>(from.miss_reason));
  to.set_device_token_count(from.device_tokens);
  to.set_host_token_count(from.host_tokens);
  to.set_disk_token_count(from.disk_tokens);
  to.set_ideal_token_count(from.ideal_tokens);
  to.set_candidate_status(StatusOf(from));
  if (from.candidate) FillCandidate(*from.candidate, *to.mutable_candidate());
  SetDuration(from.predicted_load, to.mutable_predicted_load());
  SetDuration(from.predicted_prefill, to.mutable_predicted_prefill());
  SetDuration(from.predicted_cold_prefill, to.mutable_predicted_cold_prefill());
  SetDuration(from.actual_load, to.mutable_actual_load());
  SetDuration(from.entry_age, to.mutable_entry_age());
  to.set_disk_read_bytes(from.disk_bytes_read);
  to.set_numerics_id(facts.numerics_id);
  to.set_exact(from.exact);
  to.set_in_flight_token_count(from.in_flight_tokens);
  to.set_split_token_count(from.split_tokens);
  SetDuration(from.predicted_total, to.mutable_predicted_total());
  to.set_disk_codec(from.disk_codec);
}

void FillTimes(const GenerateResult& result, RequestSummary& out) {
  out.queue = result.timings.queue;
  out.tokenize = result.timings.tokenize;
  out.lookup = result.timings.lookup;
  out.shared_wait = result.timings.shared_wait;
  out.load = result.timings.load;
  out.prefill = result.timings.prefill;
  out.time_to_first_token = result.timings.time_to_first_token;
  out.decode = result.timings.decode;
  out.predicted_load = result.reuse.predicted_load;
  out.predicted_prefill = result.reuse.predicted_prefill;
  out.predicted_cold_prefill = result.reuse.predicted_cold_prefill;
  out.predicted_total = result.reuse.predicted_total;
  out.actual_load = result.reuse.actual_load;
  out.entry_age = result.reuse.entry_age;
  out.regret = result.reuse.regret;
}

void FillCandidate(const Reuse& from, RequestSummary& out) {
  out.candidate_status =
      Label(wire::CandidateStatus_Name(StatusOf(from)), sizeof("CANDIDATE_STATUS_") - 1);
  if (!from.candidate) return;
  out.candidate_id = absl::StrCat(from.candidate->prompt_id);
  out.candidate_similarity = from.candidate->similarity;
  out.candidate_common_tokens = from.candidate->common_tokens;
}

// For people: special tokens by their literals.
std::string TextOf(absl::Span<const TokenId> ids, const Tokenizer& tokenizer) {
  IncrementalDetokenizer text(&tokenizer);
  std::string out;
  for (const TokenId id : ids) {
    if (!tokenizer.IsSpecial(id)) {
      out += text.Push(id);
      continue;
    }
    const absl::string_view literal = tokenizer.TokenBytes(id);
    absl::StrAppend(&out, text.Finish(), literal);
  }
  return out + text.Finish();
}

// The tokens of one prompt where it parts from another: its own at `at`, and those after it.
struct PartingSide {
  std::optional<TokenId> id;  // none: the prompt ends there
  std::string text, after;
};

PartingSide SideOf(const std::vector<TokenId>& ids, size_t at, size_t context,
                   const Tokenizer& tokenizer) {
  PartingSide side;
  if (at >= ids.size()) return side;
  side.id = ids[at];
  side.text = TextOf({ids[at]}, tokenizer);
  side.after = TextOf(absl::MakeConstSpan(ids).subspan(at + 1, context), tokenizer);
  return side;
}

void FillDivergence(const Explanation& explanation, const ExplainedPrompt& explained,
                    const Tokenizer& tokenizer, wire::Divergence& out) {
  const std::vector<TokenId>& ids = explained.prompt.ids;
  const auto at = static_cast<size_t>(explanation.nearest->common_tokens);
  const auto context = static_cast<size_t>(explained.context_tokens);
  const size_t shown = std::min(at, context);
  out.set_position(static_cast<int32_t>(at));
  out.set_context_before(TextOf(absl::MakeConstSpan(ids).subspan(at - shown, shown), tokenizer));
  const PartingSide here = SideOf(ids, at, context, tokenizer);
  const PartingSide cached = SideOf(explanation.nearest_ids, at, context, tokenizer);
  out.set_prompt_token_text(here.text);
  out.set_prompt_context_after(here.after);
  if (here.id) out.set_prompt_token_id(*here.id);
  out.set_cached_token_text(cached.text);
  out.set_cached_context_after(cached.after);
  if (cached.id) out.set_cached_token_id(*cached.id);
}

}  // namespace

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

void FillGeneration(const GenerateResult& result, const ModelFacts& facts, wire::Generation& out) {
  out.set_text(result.text);
  out.mutable_token_ids()->Assign(result.output_ids.begin(), result.output_ids.end());
  out.set_finish_reason(ToWire<wire::FinishReason>(result.finish_reason));
  out.set_matched_stop_sequence(result.matched_stop);
  out.set_seed(static_cast<int64_t>(result.seed));
  out.mutable_usage()->set_prompt_token_count(result.usage.prompt_tokens);
  out.mutable_usage()->set_cached_token_count(result.usage.cached_tokens);
  out.mutable_usage()->set_computed_token_count(result.usage.computed_tokens);
  out.mutable_usage()->set_output_token_count(result.usage.output_tokens);
  out.mutable_usage()->set_draft_token_count(result.usage.draft_tokens);
  out.mutable_usage()->set_accepted_token_count(result.usage.accepted_tokens);
  FillTimings(result.timings, *out.mutable_timings());
  FillReuse(result.reuse, facts, *out.mutable_reuse());
}

void FillSummary(const GenerateResult& result, RequestSummary& out) {
  const Reuse& reuse = result.reuse;
  out.finish_reason =
      Label(wire::FinishReason_Name(ToWire<wire::FinishReason>(result.finish_reason)),
            sizeof("FINISH_REASON_") - 1);
  out.prompt_tokens = result.usage.prompt_tokens;
  out.cached_tokens = result.usage.cached_tokens;
  out.computed_tokens = result.usage.computed_tokens;
  out.output_tokens = result.usage.output_tokens;
  out.draft_tokens = result.usage.draft_tokens;
  out.accepted_tokens = result.usage.accepted_tokens;
  out.ideal_tokens = reuse.ideal_tokens;
  out.device_tokens = reuse.device_tokens;
  out.host_tokens = reuse.host_tokens;
  out.disk_tokens = reuse.disk_tokens;
  out.in_flight_tokens = reuse.in_flight_tokens;
  out.split_tokens = reuse.split_tokens;
  out.disk_bytes_read = reuse.disk_bytes_read;
  out.retrieval_mode = Label(wire::RetrievalMode_Name(ToWire<wire::RetrievalMode>(reuse.mode)),
                             sizeof("RETRIEVAL_MODE_") - 1);
  FillTimes(result, out);
  out.exact = reuse.exact;
  if (!reuse.decided) return;
  FillCandidate(reuse, out);
  out.decision = Label(wire::ReuseDecision_Name(ToWire<wire::ReuseDecision>(reuse.decision)),
                       sizeof("REUSE_DECISION_") - 1);
  out.reason = Label(wire::ReuseReason_Name(ToWire<wire::ReuseReason>(reuse.reason)),
                     sizeof("REUSE_REASON_") - 1);
  out.miss_reason = Label(wire::MissReason_Name(ToWire<wire::MissReason>(reuse.miss_reason)),
                          sizeof("MISS_REASON_") - 1);
}

void FillExplanation(const Explanation& explanation, const ExplainedPrompt& explained,
                     const ModelFacts& facts, wire::ExplainPromptResponse& out) {
  const std::vector<TokenId>& ids = explained.prompt.ids;
  out.set_prompt_token_count(static_cast<int32_t>(ids.size()));
  out.set_host_token_count(explanation.host_tokens);
  out.set_disk_token_count(explanation.disk_tokens);
  out.set_ideal_token_count(explanation.ideal_tokens);
  out.set_decision(ToWire<wire::ReuseDecision>(explanation.decision));
  out.set_reason(ToWire<wire::ReuseReason>(explanation.reason));
  out.set_miss_reason(ToWire<wire::MissReason>(explanation.miss_reason));
  SetDuration(explanation.predicted_cold_prefill, out.mutable_predicted_cold_prefill());
  SetDuration(explanation.predicted_warm_prefill, out.mutable_predicted_warm_prefill());
  SetDuration(explanation.predicted_load, out.mutable_predicted_load());
  SetDuration(explanation.predicted_warm_prefill - explanation.predicted_load,
              out.mutable_predicted_prefill());
  out.set_load_bytes(explanation.load_bytes);
  if (!explanation.nearest) return;
  FillCandidate(*explanation.nearest, *out.mutable_nearest());
  if (ids == explanation.nearest_ids) return;
  FillDivergence(explanation, explained, *facts.tokenizer, *out.mutable_divergence());
}

namespace {

void FillNamespace(const NamespaceStats& from, admin::v1::NamespaceStats& to) {
  to.set_name(from.name);
  for (const std::string& tenant : from.tenants) to.add_tenants(tenant);
  to.set_host_bytes(from.host_bytes);
  to.set_max_host_bytes(from.quota.host_bytes);
  to.set_host_cached_bytes(from.host_cached_bytes);
  to.set_host_cached_token_count(from.host_cached_tokens);
  to.set_host_pinned_bytes(from.host_pinned_bytes);
  to.set_disk_bytes(from.disk_bytes);
  to.set_max_disk_bytes(from.quota.disk_bytes);
  to.set_disk_segment_count(from.disk_segments);
  to.set_disk_cached_token_count(from.disk_cached_tokens);
  to.set_pending_bytes(from.pending_bytes);
  to.set_prompt_count(from.prompt_count);
  to.set_vector_count(from.vector_count);
}

}  // namespace

void FillStats(const CacheStats& stats, admin::v1::GetCacheStatsResponse& out) {
  auto& host = *out.mutable_host();
  host.set_block_count(stats.host_block_count);
  host.set_cached_block_count(stats.host_cached_block_count);
  host.set_free_block_count(stats.host_free_block_count);
  host.set_block_bytes(stats.host_block_bytes);
  host.set_cached_token_count(stats.host_cached_tokens);
  auto& disk = *out.mutable_disk();
  disk.set_enabled(stats.disk_enabled);
  disk.set_segment_count(stats.disk.segment_count);
  disk.set_payload_bytes(stats.disk.payload_bytes);
  disk.set_disk_bytes(stats.disk.disk_bytes);
  disk.set_cached_token_count(stats.disk_cached_tokens);
  disk.set_pending_segment_count(stats.pending_write_segments);
  disk.set_durable_segment_count(stats.durable_segments);
  disk.set_read_bytes(stats.disk.read_bytes);
  disk.set_written_bytes(stats.disk.written_bytes);
  disk.set_corrupt_segment_count(stats.disk.corrupt_count);
  out.mutable_similarity()->set_vector_count(stats.vector_count);
  out.mutable_similarity()->set_prompt_count(stats.prompt_count);
  for (const NamespaceStats& in : stats.namespaces) FillNamespace(in, *out.add_namespaces());
  out.set_running_sequence_count(stats.running_sequences);
  out.set_queued_request_count(stats.queued_requests);
}

}  // namespace reprise::server
