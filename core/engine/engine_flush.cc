// What waits to be written: first uses until the engine is idle, and all that there is for who
// asks for it.
#include <algorithm>

#include "core/engine/engine_impl.h"

namespace reprise {

// First uses that wait, of all namespaces.
size_t EngineImpl::NumDeferred() const {
  size_t deferred = 0;
  ForEachNamespace(
      [&](const CacheNamespace& in) { deferred += in.write_admission.num_deferred(); });
  for (const PendingFlush& flush : flushes_) deferred += flush.deferred.size();
  return deferred;
}

// Whether first uses may be written now: nothing else was to be done for a while, and what
// was taken before is on its way.
bool EngineImpl::MayWriteDeferred() const {
  return StoreOn() && NumDeferred() > 0 && !HasSequences() &&
         pending_bytes_ < options_.write_batch_bytes &&
         Now() - last_activity_ >= options_.flush_after_idle;
}

// What a flush waits for, or else the oldest first use of the namespace with most.
std::optional<std::pair<CacheNamespace*, std::vector<TokenId>>> EngineImpl::TakeDeferred() {
  for (PendingFlush& flush : flushes_) {
    if (flush.deferred.empty()) continue;
    auto first = std::move(flush.deferred.front());
    flush.deferred.pop_front();
    return first;
  }
  CacheNamespace* in = Largest([](const CacheNamespace& each) {
    return static_cast<int64_t>(each.write_admission.num_deferred());
  });
  if (in == nullptr) return std::nullopt;
  return std::pair(in, *in->write_admission.TakeDeferred());
}

// One first use, as far as its KV is still there.
void EngineImpl::WriteDeferred() {
  const auto taken = TakeDeferred();
  if (!taken || !StoreOn()) return;
  const auto& [in, ids] = *taken;
  const std::vector<BlockId> blocks = blocks_.ShareExact(in->id, ids);
  const size_t there = std::min(ids.size(), blocks.size() * kBlockTokens);
  QueueSegments(*in, absl::MakeConstSpan(ids).first(there), blocks, /*idle=*/true);
  for (const BlockId block : blocks) blocks_.Release(block);
  if (there == ids.size()) return;
  parts_.metrics->SegmentSkipped(WriteSkip::kEvicted, PayloadBytes(ids.size() - there));
}

absl::Status EngineImpl::Flush() {
  std::future<bool> flushed;
  OnEngine<bool>([&] {
    PendingFlush& flush = flushes_.emplace_back();
    flushed = flush.done.get_future();
    ForEachNamespace([&](CacheNamespace& in) {
      while (auto ids = in.write_admission.TakeDeferred()) {
        flush.deferred.emplace_back(&in, *std::move(ids));
      }
    });
    return true;
  });
  if (flushed.get()) return absl::OkStatus();
  return absl::FailedPreconditionError("the store is off: nothing can be made durable");
}

// Whether a flush has something to do other than to wait for the writer.
bool EngineImpl::FlushMayAdvance() const {
  if (flushes_.empty()) return false;
  return flushes_.front().deferred.empty() || !StoreOn() ||
         pending_bytes_ < options_.write_batch_bytes;
}

// A part of the first flush: it holds up no step for long.
void EngineImpl::AdvanceFlush() {
  if (!FlushMayAdvance()) return;
  PendingFlush& flush = flushes_.front();
  if (!flush.deferred.empty()) return WriteDeferred();
  if (!flush.last_copy) flush.last_copy = copies_queued_;
  if (copies_done_ >= *flush.last_copy) EndFlush();
}

// All of the first flush is copied: it is durable behind the writes, and behind the account of
// them.
void EngineImpl::EndFlush() {
  const auto done = std::make_shared<std::promise<bool>>(std::move(flushes_.front().done));
  flushes_.pop_front();
  FlushWrites();
  writer_->Post([this, done] { Post([this, done] { done->set_value(StoreOn()); }); });
}

}  // namespace reprise
