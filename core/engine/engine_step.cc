#include <algorithm>

#include "core/engine/engine_impl.h"

namespace reprise {

bool EngineImpl::GrowBlocks(Sequence& sequence, int32_t tokens) {
  const auto needed = static_cast<size_t>(BlocksFor(sequence.computed + tokens));
  while (sequence.blocks.size() < needed) {
    auto block = blocks_.Allocate(sequence.cache->id);
    while (!block.ok() && !shadows_.empty()) {  // they may hold what is left of a quota
      EndShadow(ShadowResult::kSkipped);
      block = blocks_.Allocate(sequence.cache->id);
    }
    if (!block.ok()) return false;
    made_[*block] = parts_.clock->Now();
    sequence.blocks.push_back(*block);
  }
  return true;
}

StepBatch EngineImpl::MakeBatch(const SchedulePlan& plan, std::vector<SequencePtr>& members) {
  StepBatch batch;
  for (const ScheduledChunk& chunk : plan.chunks) {
    const SequencePtr& sequence = running_[chunk.sequence];
    if (!GrowBlocks(*sequence, chunk.tokens)) continue;  // another turn, once blocks are free
    StepSequence step;
    step.tokens = absl::MakeConstSpan(sequence->tokens).subspan(sequence->computed, chunk.tokens);
    step.start_position = sequence->computed;
    step.block_table = sequence->blocks;
    step.sample = chunk.tokens == sequence->pending() && sequence->request.max_output_tokens > 0;
    step.sampling = sequence->request.sampling;
    step.history = {sequence->request.prompt, sequence->result.output_ids};
    step.banned = sequence->banned;
    batch.sequences.push_back(step);
    members.push_back(sequence);
  }
  return batch;
}

void EngineImpl::Step() {
  const absl::Duration begun = Now();
  AdvanceSplits();
  const SchedulePlan plan = PlanStep();
  for (const size_t index : plan.preempted) Preempt(index);  // youngest first: indices stay right
  std::vector<SequencePtr> members;
  StepBatch batch = MakeBatch(plan, members);
  if (members.empty()) return;
  AddDrafts(members, batch);
  const absl::Duration start = Now();
  const auto result = parts_.runner->Step(batch);
  if (!result.ok()) {
    // KV of this step is undefined: its sequences end and nothing of them is kept.
    for (const SequencePtr& sequence : members) Finish(sequence, result.status());
    return;
  }
  const absl::Duration elapsed = Now() - start;
  if (parts_.on_step) {
    StepTrace trace;
    trace.start = begun;
    trace.schedule_time = start - begun;
    trace.runner_time = elapsed;
    TraceStep(plan, CountRows(members, batch), trace);
  }
  AfterStep(members, batch, *result, elapsed);
}

void EngineImpl::AfterStep(const std::vector<SequencePtr>& members, const StepBatch& batch,
                           const StepResult& result, absl::Duration elapsed) {
  const StepRows rows = CountRows(members, batch);
  LearnFromStep(members, rows, elapsed);
  parts_.metrics->StepFinished(rows.prefill, rows.decode, elapsed);
  for (size_t i = 0; i < members.size(); ++i) {
    const SequencePtr& sequence = members[i];
    const bool was_prefill = sequence->computed < sequence->prompt_size();
    const bool samples = batch.sequences[i].sample;
    sequence->computed += static_cast<int32_t>(batch.sequences[i].tokens.size());
    sequence->prompt_reached =
        std::max(sequence->prompt_reached, std::min(sequence->computed, sequence->prompt_size()));
    const bool prompt_done = was_prefill && sequence->computed >= sequence->prompt_size();
    const bool shares = prompt_done || (was_prefill && IsAwaited(*sequence));
    if (shares && sequence->caches()) Publish(*sequence);
    if (samples) {
      TakeSampled(sequence, batch.sequences[i], result, i);
    } else if (sequence->pending() == 0) {  // prefill only
      sequence->first_token = sequence->last_token = Now();
      sequence->result.finish_reason = FinishReason::kMaxTokens;
      Finish(sequence, absl::OkStatus());
    }
  }
}

// Why the sequence ends with `token`, if it does. A token that ends a reply at
// the model's wish is not part of it.
std::optional<FinishReason> EngineImpl::EndReason(Sequence& sequence, TokenId token) {
  const GenerateRequest& request = sequence.request;
  const bool is_eos = !request.ignore_eos && token == parts_.tokenizer->eos_id();
  const bool is_stop =
      std::find(request.stop_ids.begin(), request.stop_ids.end(), token) != request.stop_ids.end();
  if (is_eos || is_stop) return FinishReason::kStop;
  GenerateResult& result = sequence.result;
  result.output_ids.push_back(token);
  sequence.tokens.push_back(token);
  StopMatcher::Output output = sequence.stops.Push(sequence.detokenizer.Push(token));
  result.text += output.text;
  sequence.sink.on_chunk({{token}, std::move(output.text)});
  if (output.stop) {
    result.matched_stop = *output.stop;
    return FinishReason::kStopSequence;
  }
  const auto produced = static_cast<int32_t>(result.output_ids.size());
  if (produced < request.max_output_tokens) return std::nullopt;
  return request.ends_at_context ? FinishReason::kContextLength : FinishReason::kMaxTokens;
}

void EngineImpl::TakeToken(const SequencePtr& sequence, TokenId token) {
  const absl::Duration now = Now();
  if (sequence->result.output_ids.empty()) {
    sequence->first_token = now;
  } else {
    parts_.metrics->InterTokenGap(now - sequence->last_token);
  }
  sequence->last_token = now;
  const auto reason = EndReason(*sequence, token);
  if (!reason) return;
  sequence->result.finish_reason = *reason;
  std::string rest = sequence->stops.Push(sequence->detokenizer.Finish()).text;
  rest += sequence->stops.Finish();
  if (!rest.empty()) {
    sequence->result.text += rest;
    sequence->sink.on_chunk({{}, std::move(rest)});
  }
  Finish(sequence, absl::OkStatus());
}

void EngineImpl::FillAccount(Sequence& sequence) {
  GenerateResult& result = sequence.result;
  result.seed = sequence.request.sampling.seed;
  result.usage.prompt_tokens = sequence.prompt_size();
  result.usage.cached_tokens =
      result.reuse.device_tokens + result.reuse.host_tokens + result.reuse.disk_tokens;
  result.usage.computed_tokens = std::max(0, sequence.prompt_reached - result.usage.cached_tokens);
  result.usage.output_tokens = static_cast<int32_t>(result.output_ids.size());
  Timings& timings = result.timings;
  timings.tokenize = sequence.request.tokenize_time;
  timings.total = Now() - sequence.request.received;
  if (sequence.first_token == absl::ZeroDuration()) {
    FillUnfinished(sequence);
    return;
  }
  timings.prefill = sequence.first_token - sequence.prefill_started;
  timings.time_to_first_token = sequence.first_token - sequence.request.received;
  timings.decode = sequence.last_token - sequence.first_token;
  const absl::Duration spent = timings.load + timings.prefill;
  if (spent > sequence.predicted_alternative) {
    result.reuse.regret = spent - sequence.predicted_alternative;
  }
}

// The account of a sequence that ended before its first token: the part it was in.
void EngineImpl::FillUnfinished(Sequence& sequence) {
  const absl::Duration now = Now();
  Timings& timings = sequence.result.timings;
  if (sequence.prefill_started != absl::ZeroDuration()) {
    timings.prefill = now - sequence.prefill_started;
  } else if (sequence.load != nullptr) {
    timings.load = now - sequence.load_started;
    sequence.result.reuse.disk_bytes_read = sequence.load->Close();
  } else if (sequence.shared_from != nullptr) {
    EndWait(sequence);
  } else if (sequence.lookup_started != absl::ZeroDuration()) {
    timings.lookup = now - sequence.lookup_started;
  } else {
    timings.queue = now - sequence.submitted;
  }
}

void EngineImpl::ReleaseBlocks(Sequence& sequence) {
  for (const BlockId block : sequence.blocks) blocks_.Release(block);
  sequence.blocks.clear();
}

void EngineImpl::Finish(const SequencePtr& sequence, absl::Status status) {
  if (sequence->state == SequenceState::kDone) return;
  LeaveQueue(*sequence);
  sequence->state = SequenceState::kDone;
  std::erase(queued_, sequence);
  waiting_.remove(sequence);
  std::erase(running_, sequence);
  EndSplit(*sequence);
  FillAccount(*sequence);
  const bool ok = status.ok();
  const Usage usage = sequence->result.usage;
  GenerateResult result = std::move(sequence->result);
  sequence->sink.on_done(std::move(status), std::move(result));
  if (ok && sequence->caches()) Keep(*sequence);
  if (ok) QueueShadow(*sequence, usage);
  ReleaseBlocks(*sequence);
  last_activity_ = Now();
}

}  // namespace reprise
