// ThrottledStore: a KvStore on a disk that reads and writes so many bytes a second and
// does one thing at a time.
//
// Threading  as KvStore.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/time/clock.h"
#include "core/store/kv_store.h"

namespace reprise::bench {

class ThrottledStore final : public KvStore {
 public:
  ThrottledStore(std::unique_ptr<KvStore> store, double bytes_per_second)
      : store_(std::move(store)), bytes_per_second_(bytes_per_second) {}

  absl::Status WriteSegments(absl::Span<const SegmentWrite> writes) override {
    int64_t bytes = 0;
    for (const SegmentWrite& write : writes) bytes += static_cast<int64_t>(write.payload.size());
    Wait(bytes);
    return store_->WriteSegments(writes);
  }
  absl::Status ReadSegment(const SegmentRecord& record, MutableByteView out) override {
    Wait(static_cast<int64_t>(out.size()));
    return store_->ReadSegment(record, out);
  }
  absl::Status ReadSegmentInto(const SegmentRecord& record, const PayloadSink& sink) override {
    Wait(record.stored_bytes);
    return store_->ReadSegmentInto(record, sink);
  }
  absl::Status DeleteSegments(absl::Span<const SegmentKey> keys) override {
    return store_->DeleteSegments(keys);
  }
  absl::StatusOr<Evicted> EvictOthers(absl::Span<const Digest> kept, int64_t max_bytes) override {
    return store_->EvictOthers(kept, max_bytes);
  }
  absl::Status UpdateUsage(absl::Span<const SegmentRecord> records) override {
    return store_->UpdateUsage(records);
  }
  absl::Status ForEachSegment(const Digest& identity,
                              const std::function<void(SegmentRecord)>& visit) override {
    return store_->ForEachSegment(identity, visit);
  }
  absl::Status WritePrompt(const PromptRecord& prompt) override {
    return store_->WritePrompt(prompt);
  }
  absl::Status DeletePrompt(const Digest& identity, uint64_t id) override {
    return store_->DeletePrompt(identity, id);
  }
  absl::Status ForEachPrompt(const Digest& identity,
                             const std::function<void(PromptRecord)>& visit) override {
    return store_->ForEachPrompt(identity, visit);
  }
  StoreStats Stats() const override { return store_->Stats(); }
  int64_t PayloadLimit() const override { return store_->PayloadLimit(); }

 private:
  void Wait(int64_t bytes) {
    absl::Time end;
    {
      const std::lock_guard lock(mutex_);
      free_at_ = std::max(free_at_, absl::Now()) +
                 absl::Seconds(static_cast<double>(bytes) / bytes_per_second_);
      end = free_at_;
    }
    absl::SleepFor(end - absl::Now());
  }

  const std::unique_ptr<KvStore> store_;
  const double bytes_per_second_;
  std::mutex mutex_;
  absl::Time free_at_ = absl::InfinitePast();
};

}  // namespace reprise::bench
