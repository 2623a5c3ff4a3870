#include "tests/fakes/faulty_store.h"

#include <utility>

#include "core/base/status_macros.h"

namespace reprise {
namespace {

class FaultyStore final : public KvStore {
 public:
  FaultyStore(std::shared_ptr<KvStore> store, std::shared_ptr<StoreFaults> faults)
      : store_(std::move(store)), faults_(std::move(faults)) {}

  absl::Status WriteSegments(absl::Span<const SegmentWrite> writes) override {
    RETURN_IF_ERROR(faults_->Take(StoreOperation::kWriteSegments));
    return store_->WriteSegments(writes);
  }
  absl::Status ReadSegment(const SegmentRecord& record, MutableByteView out) override {
    RETURN_IF_ERROR(faults_->Take(StoreOperation::kReadSegment));
    if (faults_->on_read) faults_->on_read();
    return store_->ReadSegment(record, out);
  }
  absl::Status ReadSegmentInto(const SegmentRecord& record, const PayloadSink& sink) override {
    RETURN_IF_ERROR(faults_->Take(StoreOperation::kReadSegment));
    return store_->ReadSegmentInto(record, sink);
  }
  absl::Status DeleteSegments(absl::Span<const SegmentKey> keys) override {
    RETURN_IF_ERROR(faults_->Take(StoreOperation::kDeleteSegments));
    return store_->DeleteSegments(keys);
  }
  absl::StatusOr<Evicted> EvictOthers(absl::Span<const Digest> kept, int64_t max_bytes) override {
    RETURN_IF_ERROR(faults_->Take(StoreOperation::kDeleteSegments));
    return store_->EvictOthers(kept, max_bytes);
  }
  absl::Status UpdateUsage(absl::Span<const SegmentRecord> records) override {
    RETURN_IF_ERROR(faults_->Take(StoreOperation::kUpdateUsage));
    return store_->UpdateUsage(records);
  }
  absl::Status ForEachSegment(const Digest& identity,
                              const std::function<void(SegmentRecord)>& visit) override {
    RETURN_IF_ERROR(faults_->Take(StoreOperation::kListSegments));
    return store_->ForEachSegment(identity, visit);
  }
  absl::Status WritePrompt(const PromptRecord& prompt) override {
    RETURN_IF_ERROR(faults_->Take(StoreOperation::kWritePrompt));
    return store_->WritePrompt(prompt);
  }
  absl::Status DeletePrompt(const Digest& identity, uint64_t id) override {
    return store_->DeletePrompt(identity, id);
  }
  absl::Status ForEachPrompt(const Digest& identity,
                             const std::function<void(PromptRecord)>& visit) override {
    RETURN_IF_ERROR(faults_->Take(StoreOperation::kListPrompts));
    return store_->ForEachPrompt(identity, visit);
  }
  StoreStats Stats() const override { return store_->Stats(); }
  int64_t PayloadLimit() const override { return store_->PayloadLimit(); }

 private:
  const std::shared_ptr<KvStore> store_;
  const std::shared_ptr<StoreFaults> faults_;
};

}  // namespace

void StoreFaults::OpenGates() {
  for (Gate& gate : gates_) gate.Open();
}

absl::Status StoreFaults::Take(StoreOperation operation) {
  gate(operation).Pass();
  std::atomic<int>& left = At(operation);
  int seen = left.load();
  while (seen > 0 && !left.compare_exchange_weak(seen, seen - 1)) {
  }
  return seen > 0 ? absl::Status(code_, "injected fault") : absl::OkStatus();
}

std::unique_ptr<KvStore> CreateFaultyStore(std::shared_ptr<KvStore> store,
                                           std::shared_ptr<StoreFaults> faults) {
  return std::make_unique<FaultyStore>(std::move(store), std::move(faults));
}

}  // namespace reprise
