// Loads that stall: their requests compute, and the store is off until they are back.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/engine/engine_impl.h"

namespace reprise {

// Whether the load that the reader is at, its request ended or not, runs for longer than
// was predicted and the budget allows.
bool EngineImpl::ReaderStalls() const {
  if (loads_.empty()) return false;
  const std::optional<absl::Duration> began = loads_.front().account->began();
  return began && Now() - *began > loads_.front().predicted + options_.load_budget;
}

// What waits behind a stalled load would wait as long, so it is given up with it, and
// nothing is loaded until the reader is back.
void EngineImpl::GiveUpStalledLoads() {
  if (reader_stalled_ || !ReaderStalls()) return;
  reader_stalled_ = true;
  parts_.metrics->StoreFailed(StoreFailure::kLoadStalled);
  SwitchStoreOff(absl::DeadlineExceededError(
      absl::StrCat("a load took more than ", absl::FormatDuration(options_.load_budget),
                   " beyond its prediction")));
  std::vector<SequencePtr> loading;
  const auto collect = [&](const SequencePtr& sequence) {
    if (sequence->load != nullptr || sequence->split != nullptr) loading.push_back(sequence);
  };
  std::for_each(waiting_.begin(), waiting_.end(), collect);
  std::for_each(running_.begin(), running_.end(), collect);
  for (const SequencePtr& sequence : loading) GiveUpLoad(sequence);
}

void EngineImpl::GiveUpLoad(const SequencePtr& sequence) {
  if (sequence->split != nullptr) return GiveUpSplit(sequence);
  const int64_t bytes = sequence->load->Close();
  EndLoad(sequence, sequence->load_plan, bytes, Now() - sequence->load_started);
}

// The reader is done with the oldest load. Whether that was given up.
bool EngineImpl::LeaveLoad() {
  loads_.pop_front();
  const bool given_up = reader_stalled_;
  if (loads_.empty() && given_up) {
    reader_stalled_ = false;
    retry_store_at_ = Now();
  }
  return given_up;
}

}  // namespace reprise
