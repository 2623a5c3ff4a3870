// In-flight sharing: requests that wait for a prefix that another one computes.
#include <algorithm>

#include "core/engine/engine_impl.h"
#include "core/engine/prefix_sharing.h"

namespace reprise {
namespace {

int32_t CommonTokens(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  return static_cast<int32_t>(end - a.begin());
}

}  // namespace

// Whether its prompt is being computed or loaded, or will be when it has waited, for others
// to share.
bool EngineImpl::IsFilling(const Sequence& sequence) const {
  if (!sequence.caches()) return false;
  switch (sequence.state) {
    case SequenceState::kRunning:
      return sequence.computed < sequence.prompt_size();
    case SequenceState::kLoading:
    case SequenceState::kSharing:
      return true;
    default:
      return false;
  }
}

// Those of its namespace that `sequence` may wait for, first taken up first.
std::vector<EngineImpl::SequencePtr> EngineImpl::FillingBefore(const Sequence& sequence) const {
  std::vector<SequencePtr> filling;
  const auto collect = [&](const SequencePtr& other) {
    const bool later =
        other->state == SequenceState::kSharing && other->taken_up >= sequence.taken_up;
    if (other.get() == &sequence || other->cache != sequence.cache || later) return;
    if (IsFilling(*other)) filling.push_back(other);
  };
  for (const SequencePtr& other : running_) collect(other);
  for (const SequencePtr& other : waiting_) collect(other);
  const auto earlier = [](const SequencePtr& a, const SequencePtr& b) {
    return a->taken_up < b->taken_up;
  };
  std::sort(filling.begin(), filling.end(), earlier);
  return filling;
}

// Lets the sequence wait when another one computes more of its prompt than `plan` reuses.
// It is looked up again when that is there, or will not come.
bool EngineImpl::WaitForPrefix(const SequencePtr& sequence, const ReusePlan& plan) {
  if (!sequence->looks_up() || ModeOf(*sequence) == RetrievalMode::kSemantic) return false;
  const std::vector<SequencePtr> filling = FillingBefore(*sequence);
  if (filling.empty()) return false;
  SharingSnapshot snapshot;
  snapshot.prompt_tokens = sequence->prompt_size();
  snapshot.ready_tokens = std::max(plan.memory_tokens, plan.disk_tokens);
  snapshot.memory_tokens = plan.memory_tokens;
  snapshot.minimum_tokens = sequence->request.minimum_reuse_tokens;
  snapshot.policy = sequence->request.cache_policy;
  for (const SequencePtr& other : filling) {
    const int32_t common = CommonTokens(other->request.prompt, sequence->request.prompt);
    const bool loading = other->state == SequenceState::kLoading || other->split != nullptr;
    snapshot.others.push_back({common, other->prompt_size(), loading});
  }
  const SharingPlan sharing = PlanSharing(snapshot, costs_);
  if (!sharing.other) return false;
  if (!sequence->ready_tokens) sequence->ready_tokens = plan.memory_tokens;
  sequence->state = SequenceState::kSharing;
  sequence->shared_from = filling[*sharing.other];
  sequence->shared_tokens = sharing.computed_tokens;
  sequence->wait_started = Now();
  waiting_.push_back(sequence);
  // What is computed already is shared from now on.
  if (sequence->shared_from->state == SequenceState::kRunning) Publish(*sequence->shared_from);
  return true;
}

// The least that somebody waits for `sequence` to have computed, beyond what it has.
std::optional<int32_t> EngineImpl::AwaitedTokens(const Sequence& sequence) const {
  std::optional<int32_t> least;
  for (const SequencePtr& other : waiting_) {
    if (other->shared_from.get() != &sequence || other->shared_tokens <= sequence.computed)
      continue;
    least = std::min(least.value_or(other->shared_tokens), other->shared_tokens);
  }
  return least;
}

bool EngineImpl::IsAwaited(const Sequence& sequence) const {
  const auto waits = [&](const SequencePtr& o) { return o->shared_from.get() == &sequence; };
  return std::any_of(waiting_.begin(), waiting_.end(), waits);
}

// Puts what is computed of a prompt into the index while the sequence goes on. Its last,
// partly filled block stays its own; who waits for the whole prompt gets a copy.
void EngineImpl::Publish(Sequence& sequence) {
  const int32_t computed = std::min(sequence.computed, sequence.prompt_size());
  const auto ids = absl::MakeConstSpan(sequence.request.prompt).subspan(0, computed);
  const NamespaceId in = sequence.cache->id;
  blocks_.Commit(in, ids, absl::MakeSpan(sequence.blocks), /*whole_blocks_only=*/true);
  const int32_t in_last = computed % kBlockTokens;
  if (computed < sequence.prompt_size() || in_last == 0 || !IsAwaited(sequence)) return;
  const auto copy = blocks_.Allocate(in);
  if (!copy.ok()) return;
  const size_t whole = static_cast<size_t>(computed / kBlockTokens);
  if (parts_.runner->CopyBlock(sequence.blocks[whole], *copy, in_last).ok()) {
    made_[*copy] = made_[sequence.blocks[whole]];
    std::vector<BlockId> blocks(sequence.blocks.begin(),
                                sequence.blocks.begin() + static_cast<int64_t>(whole));
    blocks.push_back(*copy);
    blocks_.Commit(in, ids, absl::MakeSpan(blocks), /*whole_blocks_only=*/false);
    blocks_.Release(blocks.back());
  } else {
    blocks_.Release(*copy);
  }
}

// Goes on with those whose wait is over: what they wait for is computed, or whoever
// computed it ended, failed or was preempted. The first of several takes over then.
void EngineImpl::ResumeSharers() {
  std::vector<SequencePtr> sharers;
  for (const SequencePtr& sequence : waiting_) {
    if (sequence->state == SequenceState::kSharing) sharers.push_back(sequence);
  }
  for (const SequencePtr& sequence : sharers) {
    const Sequence& from = *sequence->shared_from;
    if (IsFilling(from) && from.computed < sequence->shared_tokens) continue;
    EndWait(*sequence);
    waiting_.remove(sequence);
    sequence->lookup_started = Now() - sequence->result.timings.lookup;
    LookUp(sequence);
  }
}

void EngineImpl::EndWait(Sequence& sequence) {
  if (sequence.shared_from == nullptr) return;
  sequence.result.timings.shared_wait += Now() - sequence.wait_started;
  sequence.shared_from = nullptr;
}

// What the wait gave, of the tokens that the plan reuses from memory.
void EngineImpl::AccountSharing(Sequence& sequence, const ReusePlan& plan) {
  if (!sequence.ready_tokens || plan.memory_tokens <= *sequence.ready_tokens) return;
  Reuse& reuse = sequence.result.reuse;
  reuse.in_flight_tokens = plan.memory_tokens - *sequence.ready_tokens;
  if (reuse.reason == ReuseReason::kFasterToLoad) reuse.reason = ReuseReason::kComputedInFlight;
}

}  // namespace reprise
