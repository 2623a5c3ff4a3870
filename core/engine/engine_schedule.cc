#include <algorithm>

#include "core/engine/engine_impl.h"

namespace reprise {
namespace {

// Steps with prompt rows beside decoding ones before one without them shows what decoding
// alone takes by now; streams grow longer meanwhile.
constexpr int kStepsBetweenPlainOnes = 12;

}  // namespace

// Of the tokens to compute those that may be in the next step: where others wait for a part
// of a prompt, that part is computed first, and of a split load what is claimed to compute.
int32_t EngineImpl::PendingNow(const Sequence& sequence) const {
  const auto awaited = AwaitedTokens(sequence);
  int32_t pending = sequence.pending();
  if (sequence.split != nullptr) {
    pending = std::min(pending, sequence.split->front_end - sequence.computed);
  }
  return awaited ? std::min(pending, *awaited - sequence.computed) : pending;
}

ScheduleSnapshot EngineImpl::TakeSnapshot() const {
  ScheduleSnapshot snapshot;
  snapshot.available_blocks = blocks_.num_available();
  snapshot.max_batch_tokens = options_.max_batch_tokens;
  int32_t decoding = 0, depth = 0;
  for (const SequencePtr& sequence : running_) {
    snapshot.running.push_back({sequence->computed, PendingNow(*sequence), sequence->decoding(),
                                static_cast<int32_t>(sequence->blocks.size())});
    if (sequence->decoding()) {
      ++decoding;
    } else {
      depth = std::max(depth, sequence->computed);
    }
  }
  const absl::Duration extra =
      costs_.DecodeStep(decoding) * options_.max_decode_slowdown_percent / 100;
  const bool plain = steps_beside_decode_ >= kStepsBetweenPlainOnes;
  snapshot.max_prefill_tokens_beside_decode = plain ? 0 : costs_.PromptRowsWithin(extra, depth);
  return snapshot;
}

// Comparisons give their blocks back before any request has to do without one.
SchedulePlan EngineImpl::PlanStep() {
  SchedulePlan plan = Schedule(TakeSnapshot());
  while (plan.short_of_blocks && !shadows_.empty()) {
    EndShadow(ShadowResult::kSkipped);
    plan = Schedule(TakeSnapshot());
  }
  return plan;
}

// What was computed goes to the cache, if the request allows that: it is shared again when
// the sequence resumes, but for what had to give way meanwhile, deepest first.
void EngineImpl::Preempt(size_t index) {
  const SequencePtr sequence = running_[index];
  const auto ids = absl::MakeConstSpan(sequence->tokens).subspan(0, sequence->computed);
  const bool keeps = sequence->caches() && !ids.empty();
  if (keeps) {
    blocks_.Commit(sequence->cache->id, ids, absl::MakeSpan(sequence->blocks),
                   /*whole_blocks_only=*/false);
  }
  parts_.metrics->Preempted(keeps ? Preemption::kCache : Preemption::kRecompute);
  if (sequence->split != nullptr) DropSplit(sequence->result.reuse, ReuseReason::kFasterToSplit);
  EndSplit(*sequence);
  ReleaseBlocks(*sequence);
  sequence->computed = 0;
  sequence->state = SequenceState::kQueued;
  running_.erase(running_.begin() + static_cast<int64_t>(index));
  queued_.push_front(sequence);
}

EngineImpl::StepRows EngineImpl::CountRows(const std::vector<SequencePtr>& members,
                                           const StepBatch& batch) const {
  StepRows rows;
  rows.sequences = static_cast<int32_t>(members.size());
  for (size_t i = 0; i < members.size(); ++i) {
    const auto tokens = static_cast<int32_t>(batch.sequences[i].tokens.size());
    rows.decode += static_cast<int32_t>(batch.sequences[i].draft.size());
    if (members[i]->decoding()) {
      rows.decode += tokens;
    } else {
      rows.prefill += tokens;
      rows.depth = std::max(rows.depth, members[i]->computed);
    }
  }
  return rows;
}

void EngineImpl::TraceStep(const SchedulePlan& plan, const StepRows& rows, StepTrace trace) const {
  trace.sequences = rows.sequences;
  trace.prefill_tokens = rows.prefill;
  trace.decode_tokens = rows.decode;
  trace.preempted = static_cast<int64_t>(plan.preempted.size());
  trace.queued_requests = static_cast<int64_t>(queued_.size());
  trace.free_blocks = blocks_.num_free();
  trace.available_blocks = blocks_.num_available();
  parts_.on_step(trace);
}

void EngineImpl::LearnFromStep(const std::vector<SequencePtr>& members, const StepRows& rows,
                               absl::Duration elapsed) {
  steps_beside_decode_ = rows.prefill > 0 && rows.decode > 0 ? steps_beside_decode_ + 1 : 0;
  if (rows.prefill == 0) {
    costs_.ObserveDecode(rows.decode, elapsed);
  } else if (rows.decode > 0) {
    costs_.ObservePromptRows(rows.prefill, rows.depth, elapsed - costs_.DecodeStep(rows.decode));
  } else if (members.size() == 1) {
    costs_.ObservePrefill(rows.prefill, rows.depth, elapsed);
  }
}

}  // namespace reprise
