#include "core/store/reopening_store.h"

#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

class ReopeningStore final : public KvStore {
 public:
  ReopeningStore(absl::StatusOr<std::unique_ptr<KvStore>> first, StoreFactory open)
      : open_(std::move(open)), why_closed_(first.status()) {
    if (first.ok()) store_ = *std::move(first);
    untold_ = store_ == nullptr;
  }

  absl::Status WriteSegments(absl::Span<const SegmentWrite> writes) override {
    return Call([&](KvStore& store) { return store.WriteSegments(writes); });
  }
  absl::Status ReadSegment(const SegmentRecord& record, MutableByteView out) override {
    absl::Status damaged;  // an answer about the segment, and no failure of the store
    RETURN_IF_ERROR(Call([&](KvStore& store) {
      absl::Status read = store.ReadSegment(record, out);
      if (!absl::IsDataLoss(read)) return read;
      damaged = std::move(read);
      return absl::OkStatus();
    }));
    return damaged;
  }
  absl::Status ReadSegmentInto(const SegmentRecord& record, const PayloadSink& sink) override {
    absl::Status damaged;
    RETURN_IF_ERROR(Call([&](KvStore& store) {
      absl::Status read = store.ReadSegmentInto(record, sink);
      if (!absl::IsDataLoss(read)) return read;
      damaged = std::move(read);
      return absl::OkStatus();
    }));
    return damaged;
  }
  absl::Status DeleteSegments(absl::Span<const SegmentKey> keys) override {
    return Call([&](KvStore& store) { return store.DeleteSegments(keys); });
  }
  absl::StatusOr<Evicted> EvictOthers(absl::Span<const Digest> kept, int64_t max_bytes) override {
    Evicted evicted;
    RETURN_IF_ERROR(Call([&](KvStore& store) -> absl::Status {
      ASSIGN_OR_RETURN(evicted, store.EvictOthers(kept, max_bytes));
      return absl::OkStatus();
    }));
    return evicted;
  }
  absl::Status UpdateUsage(absl::Span<const SegmentRecord> records) override {
    return Call([&](KvStore& store) { return store.UpdateUsage(records); });
  }
  absl::Status ForEachSegment(const Digest& identity,
                              const std::function<void(SegmentRecord)>& visit) override {
    RETURN_IF_ERROR(Reopen());
    return Call([&](KvStore& store) { return store.ForEachSegment(identity, visit); });
  }
  absl::Status WritePrompt(const PromptRecord& prompt) override {
    return Call([&](KvStore& store) { return store.WritePrompt(prompt); });
  }
  absl::Status DeletePrompt(const Digest& identity, uint64_t id) override {
    return Call([&](KvStore& store) { return store.DeletePrompt(identity, id); });
  }
  absl::Status ForEachPrompt(const Digest& identity,
                             const std::function<void(PromptRecord)>& visit) override {
    return Call([&](KvStore& store) { return store.ForEachPrompt(identity, visit); });
  }
  StoreStats Stats() const override;
  int64_t PayloadLimit() const override {
    const std::shared_ptr<KvStore> store = Current();
    return store == nullptr ? KvStore::PayloadLimit() : store->PayloadLimit();
  }

 private:
  std::shared_ptr<KvStore> Current() const {
    const std::lock_guard lock(mutex_);
    return store_;
  }
  template <typename Operation>
  absl::Status Call(const Operation& operation);
  absl::Status Reopen();
  absl::Status Close();

  const StoreFactory open_;
  // The standard mutex, since ThreadSanitizer does not see into a packaged abseil. Never held
  // during a call of the store, which a slow disk may make long.
  mutable std::mutex mutex_;        // guards what follows
  std::shared_ptr<KvStore> store_;  // null: closed; a caller inside has another reference
  absl::Status why_closed_;
  bool untold_ = false;  // nobody has heard that the first opening failed
  bool failed_ = false;  // a call has failed since the opening
  StoreStats before_;    // what earlier openings counted
};

template <typename Operation>
absl::Status ReopeningStore::Call(const Operation& operation) {
  const std::shared_ptr<KvStore> store = Current();
  if (store == nullptr) {
    const std::lock_guard lock(mutex_);
    return absl::UnavailableError(absl::StrCat("the store is not open: ", why_closed_.message()));
  }
  absl::Status status = operation(*store);
  // No such segment, or no room for it, is an answer.
  if (!status.ok() && !absl::IsNotFound(status) && !absl::IsResourceExhausted(status)) {
    const std::lock_guard lock(mutex_);
    failed_ = true;
  }
  return status;
}

// Closes a store in which something failed, unless a call is inside.
absl::Status ReopeningStore::Close() {
  std::shared_ptr<KvStore> closing;
  {
    const std::lock_guard lock(mutex_);
    if (store_ == nullptr || !failed_) return absl::OkStatus();
    // No new caller comes while the mutex is held.
    if (store_.use_count() > 1) return absl::UnavailableError("a call of the store is stuck");
    closing.swap(store_);
    why_closed_ = absl::UnavailableError("it failed and is opened anew");
  }
  const StoreStats stats = closing->Stats();
  const std::lock_guard lock(mutex_);
  before_.read_bytes += stats.read_bytes;
  before_.written_bytes += stats.written_bytes;
  before_.corrupt_count += stats.corrupt_count;
  return absl::OkStatus();
}

absl::Status ReopeningStore::Reopen() {
  RETURN_IF_ERROR(Close());
  {
    const std::lock_guard lock(mutex_);
    if (store_ != nullptr) return absl::OkStatus();
    if (std::exchange(untold_, false)) return why_closed_;
  }
  auto opened = open_();
  const std::lock_guard lock(mutex_);
  failed_ = false;
  if (opened.ok()) {
    store_ = *std::move(opened);
    return absl::OkStatus();
  }
  why_closed_ = opened.status();
  // A lock that another process has taken meanwhile may be given back: no reason to stop now.
  return absl::UnavailableError(why_closed_.message());
}

StoreStats ReopeningStore::Stats() const {
  const std::shared_ptr<KvStore> store = Current();
  StoreStats stats = store != nullptr ? store->Stats() : StoreStats();
  const std::lock_guard lock(mutex_);
  stats.read_bytes += before_.read_bytes;
  stats.written_bytes += before_.written_bytes;
  stats.corrupt_count += before_.corrupt_count;
  return stats;
}

}  // namespace

std::unique_ptr<KvStore> CreateReopeningStore(absl::StatusOr<std::unique_ptr<KvStore>> first,
                                              StoreFactory open) {
  return std::make_unique<ReopeningStore>(std::move(first), std::move(open));
}

}  // namespace reprise
