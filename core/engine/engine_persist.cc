#include <algorithm>

#include "core/engine/engine_impl.h"

namespace reprise {
namespace {

constexpr int64_t kWriteBatchBytes = int64_t{16} << 20;
constexpr int kFailuresToSwitchOff = 3;

}  // namespace

void EngineImpl::Keep(Sequence& sequence) {
  if (!DropAhead(sequence)) return;
  const auto ids = absl::MakeConstSpan(sequence.tokens).subspan(0, sequence.computed);
  blocks_.Commit(ids, absl::MakeSpan(sequence.blocks), /*whole_blocks_only=*/false);
  if (StoreOn()) QueueSegments(ids, sequence.blocks);
  if (ModeOf(sequence) != RetrievalMode::kPrefix) QueueEmbedding(sequence);
}

void EngineImpl::QueueSegments(absl::Span<const TokenId> ids, absl::Span<const BlockId> blocks) {
  const int64_t now = absl::ToUnixMillis(parts_.clock->Now());
  for (SegmentRecord& record : disk_.Missing(ids)) {
    const size_t first = record.start_position / kBlockTokens;
    const auto count = static_cast<size_t>(BlocksFor(static_cast<int32_t>(record.ids.size())));
    record.payload_bytes = static_cast<int64_t>(count) * parts_.runner->block_bytes();
    if (pending_bytes_ + record.payload_bytes > options_.max_pending_write_bytes) {
      parts_.metrics->StoreFailed(StoreFailure::kWriteQueueFull);
      return;
    }
    pending_bytes_ += record.payload_bytes;
    record.created_unix_ms = record.last_used_unix_ms = now;
    PendingCopy copy;
    for (const BlockId block : blocks.subspan(first, count)) {
      blocks_.Hold(block);
      copy.blocks.push_back(block);
    }
    disk_.BeginWrite(record.key);
    copy.record = std::move(record);
    copies_.push_back(std::move(copy));
  }
}

// One segment a turn, so that copying never holds up a step for long.
void EngineImpl::CopyOneSegment() {
  if (copies_.empty()) return;
  PendingCopy copy = std::move(copies_.front());
  copies_.pop_front();
  const auto block_bytes = static_cast<size_t>(parts_.runner->block_bytes());
  SegmentWrite write;
  write.payload.resize(copy.blocks.size() * block_bytes);
  bool read = true;
  for (size_t i = 0; i < copy.blocks.size(); ++i) {
    const auto out = absl::MakeSpan(write.payload).subspan(i * block_bytes, block_bytes);
    read = read && parts_.runner->ReadBlock(copy.blocks[i], out).ok();
    blocks_.Release(copy.blocks[i]);
  }
  if (!read) {
    pending_bytes_ -= copy.record.payload_bytes;
    disk_.EndWrite(copy.record.key);
    return;
  }
  writes_bytes_ += copy.record.payload_bytes;
  write.record = std::move(copy.record);
  writes_.push_back(std::move(write));
  if (writes_bytes_ >= kWriteBatchBytes) FlushWrites();
}

// Lets the next start evict in the order that holds now.
void EngineImpl::SaveUsage() {
  if (!StoreOn()) return;
  std::vector<SegmentRecord> used = disk_.TakeUsed();
  if (used.empty()) return;
  writer_->Post([this, used = std::move(used)] {
    absl::Status status = parts_.store->UpdateUsage(used);
    if (status.ok()) return;
    Post([this, status = std::move(status)] { StoreFailed(StoreFailure::kWrite, status); });
  });
}

void EngineImpl::FlushWrites() {
  SaveUsage();
  if (writes_.empty()) return;
  auto batch = std::make_shared<std::vector<SegmentWrite>>(std::move(writes_));
  writes_.clear();
  writes_bytes_ = 0;
  writing_segments_ += static_cast<int64_t>(batch->size());
  writer_->Post([this, batch] {
    absl::Status status = parts_.store->WriteSegments(*batch);
    std::vector<SegmentRecord> records;
    for (SegmentWrite& write : *batch) records.push_back(std::move(write.record));
    Post([this, records = std::move(records), status = std::move(status)] {
      WritesDone(records, status);
    });
  });
}

void EngineImpl::WritesDone(const std::vector<SegmentRecord>& records, const absl::Status& status) {
  writing_segments_ -= static_cast<int64_t>(records.size());
  for (const SegmentRecord& record : records) {
    disk_.EndWrite(record.key);
    pending_bytes_ -= record.payload_bytes;
  }
  if (!status.ok()) {
    StoreFailed(StoreFailure::kWrite, status);
    return;
  }
  store_failures_ = 0;
  int64_t bytes = 0;
  for (const SegmentRecord& record : records) {
    bytes += record.payload_bytes;
    AddToDisk(record);
  }
  durable_segments_ += static_cast<int64_t>(records.size());
  parts_.metrics->SegmentsDurable(static_cast<int64_t>(records.size()), bytes);
  EvictFromStore();
}

// Indexes a durable record; it, or what it supersedes, goes when nothing can reach it.
void EngineImpl::AddToDisk(const SegmentRecord& record) {
  DeleteFromStore(disk_.Add(record).value_or(std::vector<SegmentKey>{record.key}));
}

void EngineImpl::EvictFromStore() {
  EvictOtherIdentities();
  const int64_t before = disk_.payload_bytes();
  std::vector<SegmentKey> keys = disk_.EvictPast(options_.max_disk_bytes - other_bytes_);
  if (keys.empty()) return;
  parts_.metrics->SegmentsEvicted(static_cast<int64_t>(keys.size()),
                                  before - disk_.payload_bytes());
  DeleteFromStore(std::move(keys));
}

// What other identities left is of no use to this one, so it gives way first.
void EngineImpl::EvictOtherIdentities() {
  const int64_t room = std::max<int64_t>(options_.max_disk_bytes - disk_.payload_bytes(), 0);
  if (other_bytes_ <= room) return;
  const int64_t before = other_bytes_;
  other_bytes_ = room;
  writer_->Post([this, room, before] {
    const auto evicted = parts_.store->EvictOthers(parts_.identity, room);
    if (evicted.ok()) {
      parts_.metrics->SegmentsEvicted(evicted->segments, evicted->payload_bytes);
      return;
    }
    Post([this, before, status = evicted.status()] {
      other_bytes_ = before;  // tried again with the next write
      StoreFailed(StoreFailure::kDelete, status);
    });
  });
}

void EngineImpl::DeleteFromStore(std::vector<SegmentKey> keys) {
  if (keys.empty()) return;
  writer_->Post([this, keys = std::move(keys)] {
    absl::Status status = parts_.store->DeleteSegments(keys);
    if (status.ok()) return;
    Post([this, status = std::move(status)] { StoreFailed(StoreFailure::kDelete, status); });
  });
}

void EngineImpl::Tell(std::string event, const absl::Status& status) {
  if (parts_.on_event) parts_.on_event({std::move(event), std::string(status.message())});
}

void EngineImpl::StoreFailed(StoreFailure failure, const absl::Status& status) {
  parts_.metrics->StoreFailed(failure);
  if (++store_failures_ >= kFailuresToSwitchOff) SwitchStoreOff(status);
}

void EngineImpl::SwitchStoreOff(const absl::Status& status) {
  if (!store_enabled_) return;
  store_enabled_ = false;
  retry_store_at_ = Now() + options_.retry_pause;
  parts_.metrics->SetStoreGauges({});
  Tell("store_switched_off", status);
}

// A store that was switched off counts as healed once it can be listed: that also
// finds again what was forgotten when it could not be read.
void EngineImpl::RetryStore() {
  const bool off = parts_.store != nullptr && !store_enabled_;
  const bool waits = retrying_store_ || reader_stalled_ || Now() < retry_store_at_;
  if (!off || waits) return;
  retrying_store_ = true;
  writer_->Post([this] {
    auto listing = std::make_shared<StoreListing>(ListStore());
    Post([this, listing] {
      retrying_store_ = false;
      retry_store_at_ = Now() + options_.retry_pause;
      if (!listing->status.ok()) return StoreFailed(StoreFailure::kList, listing->status);
      store_enabled_ = true;
      store_failures_ = kFailuresToSwitchOff - 1;  // on trial: one more and it is off again
      const StoreStats& stats = listing->stats;
      parts_.metrics->SetStoreGauges(
          {true, stats.segment_count, stats.payload_bytes, stats.disk_bytes, stats.buffer_bytes});
      Adopt(std::move(*listing));
      Tell("store_switched_on");
    });
  });
}

EngineImpl::StoreListing EngineImpl::ListStore() {
  StoreListing listing;
  listing.stats = parts_.store->Stats();
  listing.status = parts_.store->ForEachSegment(parts_.identity, [&](SegmentRecord record) {
    listing.segments.push_back(std::move(record));
  });
  if (!listing.status.ok()) return listing;
  listing.status = parts_.store->ForEachPrompt(parts_.identity, [&](PromptRecord prompt) {
    listing.prompts.emplace_back(prompt.id, std::move(prompt.ids));
  });
  return listing;
}

void EngineImpl::Adopt(StoreListing&& listing) {
  other_bytes_ = listing.stats.payload_bytes;
  for (const SegmentRecord& record : listing.segments) {
    other_bytes_ -= record.payload_bytes;
    AddToDisk(record);
  }
  disk_.OrderByLastUse();
  for (auto& [id, ids] : listing.prompts) prompts_.Restore(id, std::move(ids));
  ForgetOldPrompts();
  if (listing.status.ok()) EvictFromStore();  // the limit may have become smaller
}

}  // namespace reprise
