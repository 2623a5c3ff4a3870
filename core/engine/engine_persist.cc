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
  CacheNamespace& in = *sequence.cache;
  blocks_.Commit(in.id, ids, absl::MakeSpan(sequence.blocks), /*whole_blocks_only=*/false);
  if (StoreOn()) QueueSegments(in, ids, sequence.blocks);
  if (ModeOf(sequence) != RetrievalMode::kPrefix) QueueEmbedding(sequence);
}

void EngineImpl::QueueSegments(CacheNamespace& in, absl::Span<const TokenId> ids,
                               absl::Span<const BlockId> blocks) {
  const int64_t now = absl::ToUnixMillis(parts_.clock->Now());
  for (SegmentRecord& record : in.disk.Missing(ids)) {
    const size_t first = record.start_position / kBlockTokens;
    const auto count = static_cast<size_t>(BlocksFor(static_cast<int32_t>(record.ids.size())));
    record.payload_bytes = static_cast<int64_t>(count) * parts_.runner->block_bytes();
    if (pending_bytes_ + record.payload_bytes > options_.max_pending_write_bytes) {
      parts_.metrics->StoreFailed(StoreFailure::kWriteQueueFull);
      return;
    }
    if (!MakeRoomToWrite(in, record.payload_bytes)) {
      parts_.metrics->SegmentOverQuota(in.spec->name);
      return;
    }
    pending_bytes_ += record.payload_bytes;
    in.pending_bytes += record.payload_bytes;
    record.created_unix_ms = record.last_used_unix_ms = now;
    PendingCopy copy;
    for (const BlockId block : blocks.subspan(first, count)) {
      blocks_.Hold(block);
      copy.blocks.push_back(block);
    }
    in.disk.BeginWrite(record.key);
    copy.record = std::move(record);
    copies_.push_back(std::move(copy));
  }
}

// Within the namespace's quota; its own entries give way in the order of its DiskCache. What
// that leaves is deleted before anything queued from now on is written.
bool EngineImpl::MakeRoomToWrite(CacheNamespace& in, int64_t bytes) {
  const int64_t quota = in.spec->quota.disk_bytes;
  if (quota == 0) return true;
  const int64_t room = quota - in.pending_bytes - bytes;
  if (room < 0) return false;
  const int64_t before = in.disk.payload_bytes();
  std::vector<SegmentKey> keys = in.disk.EvictPast(room);
  DeleteEvicted(std::move(keys), before - in.disk.payload_bytes());
  return in.disk.payload_bytes() <= room;
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
    EndWrite(copy.record);
    return;
  }
  writes_bytes_ += copy.record.payload_bytes;
  write.record = std::move(copy.record);
  writes_.push_back(std::move(write));
  if (writes_bytes_ >= kWriteBatchBytes) FlushWrites();
}

// Of a segment on its way to the store: it is there now, or will never be.
void EngineImpl::EndWrite(const SegmentRecord& record) {
  CacheNamespace& in = *by_identity_.at(record.identity);
  pending_bytes_ -= record.payload_bytes;
  in.pending_bytes -= record.payload_bytes;
  in.disk.EndWrite(record.key);
}

// Lets the next start evict in the order that holds now.
void EngineImpl::SaveUsage() {
  if (!StoreOn()) return;
  std::vector<SegmentRecord> used;
  ForEachNamespace([&](CacheNamespace& in) {
    for (SegmentRecord& record : in.disk.TakeUsed()) used.push_back(std::move(record));
  });
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
  for (const SegmentRecord& record : records) EndWrite(record);
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
  DiskCache& disk = by_identity_.at(record.identity)->disk;
  DeleteFromStore(disk.Add(record).value_or(std::vector<SegmentKey>{record.key}));
}

// The namespace that holds most gives way, a sixteenth of what it has at a time.
void EngineImpl::EvictFromStore() {
  EvictOtherIdentities();
  absl::flat_hash_set<const CacheNamespace*> spent;  // only pinned segments are left
  while (true) {
    const int64_t excess = DiskPayloadBytes() + other_bytes_ - options_.max_disk_bytes;
    if (excess <= 0) return;
    CacheNamespace* in = Largest([&](const CacheNamespace& each) {
      return spent.contains(&each) ? 0 : each.disk.payload_bytes();
    });
    if (in == nullptr) return;
    const int64_t before = in->disk.payload_bytes();
    const bool alone = before == DiskPayloadBytes();
    const int64_t step = alone ? excess : std::min(excess, before / 16 + 1);
    std::vector<SegmentKey> keys = in->disk.EvictPast(before - step);
    if (keys.empty()) spent.insert(in);
    DeleteEvicted(std::move(keys), before - in->disk.payload_bytes());
  }
}

void EngineImpl::DeleteEvicted(std::vector<SegmentKey> keys, int64_t bytes) {
  if (keys.empty()) return;
  parts_.metrics->SegmentsEvicted(static_cast<int64_t>(keys.size()), bytes);
  DeleteFromStore(std::move(keys));
}

// What identities left that no namespace has is of no use any more, so it gives way first.
void EngineImpl::EvictOtherIdentities() {
  const int64_t room = std::max<int64_t>(options_.max_disk_bytes - DiskPayloadBytes(), 0);
  if (other_bytes_ <= room) return;
  const int64_t before = other_bytes_;
  other_bytes_ = room;
  writer_->Post([this, room, before] {
    std::vector<Digest> kept;
    for (const NamespaceSpec& spec : parts_.namespaces) kept.push_back(spec.identity);
    const auto evicted = parts_.store->EvictOthers(kept, room);
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
  for (const NamespaceSpec& spec : parts_.namespaces) {
    NamespaceListing& in = listing.namespaces.emplace_back();
    listing.status = parts_.store->ForEachSegment(
        spec.identity, [&](SegmentRecord record) { in.segments.push_back(std::move(record)); });
    if (!listing.status.ok()) return listing;
    listing.status = parts_.store->ForEachPrompt(
        spec.identity, [&](PromptRecord prompt) { in.prompts.push_back(std::move(prompt)); });
    if (!listing.status.ok()) return listing;
  }
  return listing;
}

void EngineImpl::Adopt(StoreListing&& listing) {
  other_bytes_ = listing.stats.payload_bytes;
  for (size_t spec = 0; spec < listing.namespaces.size(); ++spec) {
    NamespaceListing& listed = listing.namespaces[spec];
    if (listed.segments.empty() && listed.prompts.empty()) continue;
    CacheNamespace& in = Open(spec);
    for (const SegmentRecord& record : listed.segments) {
      other_bytes_ -= record.payload_bytes;
      AddToDisk(record);
    }
    in.disk.OrderByLastUse();
    for (PromptRecord& prompt : listed.prompts) {
      // The first namespace's index was filled before; a vector that does not fit is only not
      // found.
      if (spec > 0 && in.vectors != nullptr && !in.vectors->Contains(prompt.id)) {
        in.vectors->Add(prompt.id, prompt.embedding).IgnoreError();
      }
      in.prompts.Restore(prompt.id, std::move(prompt.ids));
    }
  }
  ForgetOldPrompts();
  if (listing.status.ok()) EvictFromStore();  // the limit may have become smaller
}

}  // namespace reprise
