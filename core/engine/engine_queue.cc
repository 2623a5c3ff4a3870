// Requests that leave the queue otherwise than by being taken up.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/engine/engine_impl.h"

namespace reprise {

void EngineImpl::LeaveQueue(Sequence& sequence) {
  if (!sequence.counted_as_queued) return;
  sequence.counted_as_queued = false;
  const std::lock_guard lock(mutex_);
  --queued_count_;
  --queued_of_[sequence.spec];
}

// The one to leave a queue that is too long: the latest of the namespace that holds most of it.
EngineImpl::SequencePtr EngineImpl::Displaced() {
  const std::lock_guard lock(mutex_);
  if (queued_count_ <= options_.max_queued_requests) return nullptr;
  const auto most = std::max_element(queued_of_.begin(), queued_of_.end());
  const auto spec = static_cast<size_t>(most - queued_of_.begin());
  for (auto at = queued_.rbegin(); at != queued_.rend(); ++at) {
    if ((*at)->counted_as_queued && (*at)->spec == spec) return *at;
  }
  return nullptr;  // it is in the inbox, behind this
}

void EngineImpl::KeepQueueWithinLimit() {
  while (const SequencePtr sequence = Displaced()) {
    Finish(sequence,
           absl::ResourceExhaustedError(absl::StrCat(
               options_.max_queued_requests,
               " requests are waiting, which is the limit, most of them of ",
               parts_.namespaces[sequence->spec].name, ": the latest gives way to others'")));
  }
}

// Ends sequences that were cancelled or whose deadline has passed.
void EngineImpl::CheckEnded() {
  const absl::Duration now = Now();
  std::vector<SequencePtr> ended;
  const auto collect = [&](const auto& sequences) {
    for (const SequencePtr& sequence : sequences) {
      const bool late = sequence->request.deadline && now >= *sequence->request.deadline;
      if (late || cancelled_.contains(sequence->id)) ended.push_back(sequence);
    }
  };
  collect(queued_);
  collect(waiting_);
  collect(running_);
  for (const SequencePtr& sequence : ended) {
    Finish(sequence, cancelled_.contains(sequence->id)
                         ? absl::CancelledError("the caller cancelled the request")
                         : absl::DeadlineExceededError("the deadline passed"));
  }
  cancelled_.clear();
}

}  // namespace reprise
