#include "core/store/memory_store.h"

#include <map>
#include <mutex>

#include "absl/functional/function_ref.h"
#include "core/store/eviction_choice.h"
#include "core/store/segment_codec.h"

namespace reprise {
namespace {

class MemoryStore final : public KvStore {
 public:
  absl::Status WriteSegments(absl::Span<const SegmentWrite> writes) override {
    const std::lock_guard lock(mutex_);
    for (const SegmentWrite& write : writes) {
      SegmentRecord record = write.record;
      record.stored_bytes = static_cast<int64_t>(write.payload.size());
      if (record.codec == PayloadCodec::kRaw) record.payload_bytes = record.stored_bytes;
      segments_[record.key] = {record, EncodeSegment(record, write.payload)};
      written_bytes_ += record.stored_bytes;
    }
    return absl::OkStatus();
  }

  absl::Status ReadSegment(const SegmentRecord& record, MutableByteView out) override {
    return ReadValue(record, [&](ByteView value) { return DecodeSegment(value, record, out); });
  }

  absl::Status ReadSegmentInto(const SegmentRecord& record, const PayloadSink& sink) override {
    return ReadValue(record,
                     [&](ByteView value) { return DecodeSegmentInto(value, record, sink); });
  }

  absl::Status DeleteSegments(absl::Span<const SegmentKey> keys) override {
    const std::lock_guard lock(mutex_);
    for (const SegmentKey& key : keys) segments_.erase(key);
    return absl::OkStatus();
  }

  absl::StatusOr<Evicted> EvictOthers(absl::Span<const Digest> kept, int64_t max_bytes) override {
    const std::lock_guard lock(mutex_);
    std::vector<EvictionCandidate> candidates;
    for (const auto& [key, entry] : segments_) {
      const SegmentRecord& record = entry.record;
      if (Contains(kept, record.identity)) continue;
      candidates.push_back({key, record.identity, record.start_position, record.stored_bytes,
                            record.last_used_unix_ms});
    }
    const EvictionChoice choice = ChooseEvictions(std::move(candidates), max_bytes);
    for (const SegmentKey& key : choice.keys) segments_.erase(key);
    for (const Digest& emptied : choice.emptied) {
      std::erase_if(prompts_, [&](const auto& prompt) { return prompt.first.first == emptied; });
    }
    return Evicted{static_cast<int64_t>(choice.keys.size()), choice.payload_bytes};
  }

  absl::Status UpdateUsage(absl::Span<const SegmentRecord> records) override {
    const std::lock_guard lock(mutex_);
    for (const SegmentRecord& record : records) {
      const auto found = segments_.find(record.key);
      if (found == segments_.end()) continue;
      found->second.record.last_used_unix_ms = record.last_used_unix_ms;
      found->second.record.hit_count = record.hit_count;
      found->second.record.pinned = record.pinned;
      found->second.record.expires_unix_ms = record.expires_unix_ms;
    }
    return absl::OkStatus();
  }

  absl::Status ForEachSegment(const Digest& identity,
                              const std::function<void(SegmentRecord)>& visit) override {
    std::multimap<int32_t, SegmentRecord> by_position;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [key, entry] : segments_) {
        if (entry.record.identity != identity) continue;
        by_position.emplace(entry.record.start_position, entry.record);
      }
    }
    for (auto& [position, record] : by_position) visit(std::move(record));
    return absl::OkStatus();
  }

  absl::Status WritePrompt(const PromptRecord& prompt) override {
    const std::lock_guard lock(mutex_);
    prompts_[{prompt.identity, prompt.id}] = prompt;
    return absl::OkStatus();
  }

  absl::Status DeletePrompt(const Digest& identity, uint64_t id) override {
    const std::lock_guard lock(mutex_);
    prompts_.erase({identity, id});
    return absl::OkStatus();
  }

  absl::Status ForEachPrompt(const Digest& identity,
                             const std::function<void(PromptRecord)>& visit) override {
    std::vector<PromptRecord> prompts;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [key, prompt] : prompts_) {
        if (key.first == identity) prompts.push_back(prompt);
      }
    }
    for (PromptRecord& prompt : prompts) visit(std::move(prompt));
    return absl::OkStatus();
  }

  StoreStats Stats() const override {
    const std::lock_guard lock(mutex_);
    StoreStats stats;
    stats.segment_count = static_cast<int64_t>(segments_.size());
    stats.prompt_count = static_cast<int64_t>(prompts_.size());
    for (const auto& [key, entry] : segments_) {
      stats.payload_bytes += entry.record.stored_bytes;
      stats.disk_bytes += static_cast<int64_t>(entry.value.size());
    }
    stats.read_bytes = read_bytes_;
    stats.written_bytes = written_bytes_;
    stats.corrupt_count = corrupt_count_;
    return stats;
  }

 private:
  absl::Status ReadValue(const SegmentRecord& record,
                         absl::FunctionRef<absl::Status(ByteView value)> decode) {
    const std::lock_guard lock(mutex_);
    const auto found = segments_.find(record.key);
    if (found == segments_.end()) return absl::NotFoundError("no such segment");
    absl::Status status = decode(AsBytes(found->second.value));
    if (status.ok()) {
      read_bytes_ += record.payload_bytes;
    } else if (absl::IsDataLoss(status)) {
      ++corrupt_count_;
      segments_.erase(found);
    }
    return status;
  }

  struct Entry {
    SegmentRecord record;
    std::string value;  // as EncodeSegment made it
  };

  mutable std::mutex mutex_;  // guards what follows; ThreadSanitizer sees into it
  std::map<SegmentKey, Entry> segments_;
  std::map<std::pair<Digest, uint64_t>, PromptRecord> prompts_;
  int64_t read_bytes_ = 0;
  int64_t written_bytes_ = 0;
  int64_t corrupt_count_ = 0;
};

}  // namespace

std::unique_ptr<KvStore> CreateMemoryStore() { return std::make_unique<MemoryStore>(); }

}  // namespace reprise
