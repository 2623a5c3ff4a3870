#include <algorithm>

#include "core/engine/engine_impl.h"

namespace reprise {
namespace {

// Below the store's limit, once it is reached, so that files are freed seldom and many at once.
constexpr int64_t kFreedShare = 64;

constexpr int kFailuresToSwitchOff = 3;
constexpr int64_t kLargeLoad = int64_t{1} << 30;  // whose time is that of its bytes

}  // namespace

void EngineImpl::Keep(Sequence& sequence) {
  if (!DropAhead(sequence)) return;
  const auto ids = absl::MakeConstSpan(sequence.tokens).subspan(0, sequence.computed);
  blocks_.Commit(ids, absl::MakeSpan(sequence.blocks), /*whole_blocks_only=*/false);
  if (StoreOn()) QueueSegments(ids, sequence.blocks, /*idle=*/false);
  if (ModeOf(sequence) != RetrievalMode::kPrefix) QueueEmbedding(sequence);
}

int64_t EngineImpl::PayloadBytes(size_t tokens) const {
  return BlocksFor(static_cast<int32_t>(tokens)) * parts_.runner->block_bytes();
}

// What keeps a segment, and with it those behind it, from being written now.
std::optional<EngineImpl::NotNow> EngineImpl::WhyNotNow(const SegmentRecord& record, bool idle) {
  const int64_t bytes = PayloadBytes(record.ids.size());
  if (options_.write_selectively && !idle) {
    const auto tokens = static_cast<int32_t>(record.ids.size());
    const auto decision =
        write_admission_.Decide(record.key, costs_.PredictPrefill(tokens, record.start_position),
                                costs_.PredictLoad(bytes));
    if (decision == WriteAdmission::Decision::kNever) return NotNow{WriteSkip::kNoBenefit};
    if (decision == WriteAdmission::Decision::kWhenIdle) return NotNow{};
  }
  const bool full = pending_bytes_ + bytes > options_.max_pending_write_bytes;
  return full ? std::optional(NotNow{WriteSkip::kQueueFull}) : std::nullopt;
}

// With `idle`, first uses are written too.
void EngineImpl::QueueSegments(absl::Span<const TokenId> ids, absl::Span<const BlockId> blocks,
                               bool idle) {
  std::optional<NotNow> not_now;  // of one segment and all behind it
  for (SegmentRecord& record : disk_.Missing(ids)) {
    if (!not_now) not_now = WhyNotNow(record, idle);
    if (!not_now) {
      QueueSegment(std::move(record), blocks);
    } else if (not_now->skip) {
      parts_.metrics->SegmentSkipped(*not_now->skip, PayloadBytes(record.ids.size()));
    } else {
      WhyNotNow(record, idle);  // seen once
    }
  }
  if (!not_now || not_now->skip) return;
  if (write_admission_.Defer({ids.begin(), ids.end()})) return;
  parts_.metrics->SegmentSkipped(WriteSkip::kQueueFull, 0);
}

void EngineImpl::QueueSegment(SegmentRecord&& record, absl::Span<const BlockId> blocks) {
  record.payload_bytes = PayloadBytes(record.ids.size());
  pending_bytes_ += record.payload_bytes;
  record.created_unix_ms = record.last_used_unix_ms = absl::ToUnixMillis(parts_.clock->Now());
  PendingCopy copy;
  const size_t first = record.start_position / kBlockTokens;
  const auto count = static_cast<size_t>(BlocksFor(static_cast<int32_t>(record.ids.size())));
  for (const BlockId block : blocks.subspan(first, count)) {
    blocks_.Hold(block);
    copy.blocks.push_back(block);
  }
  disk_.BeginWrite(record.key);
  copy.record = std::move(record);
  copies_.push_back(std::move(copy));
}

// Whether first uses may be written now: nothing else was to be done for a while, and what
// was taken before is on its way.
bool EngineImpl::MayWriteDeferred() const {
  return StoreOn() && write_admission_.num_deferred() > 0 && !HasSequences() &&
         pending_bytes_ < options_.write_batch_bytes &&
         Now() - last_activity_ >= options_.flush_after_idle;
}

// The oldest first use, as far as its KV is still there.
void EngineImpl::WriteDeferred() {
  const auto ids = write_admission_.TakeDeferred();
  if (!ids || !StoreOn()) return;
  const std::vector<BlockId> blocks = blocks_.ShareExact(*ids);
  const size_t there = std::min(ids->size(), blocks.size() * kBlockTokens);
  QueueSegments(absl::MakeConstSpan(*ids).first(there), blocks, /*idle=*/true);
  for (const BlockId block : blocks) blocks_.Release(block);
  if (there == ids->size()) return;
  parts_.metrics->SegmentSkipped(WriteSkip::kEvicted, PayloadBytes(ids->size() - there));
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
  if (writes_bytes_ >= options_.write_batch_bytes) FlushWrites();
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
  writer_->Post([this, batch, codec = CodecNow(), rates = compression_]() mutable {
    for (SegmentWrite& write : *batch) {
      Compress(codec, options_.kv_value_bytes, *parts_.clock, write, rates);
    }
    absl::Status status = parts_.store->WriteSegments(*batch);
    std::vector<SegmentRecord> records;
    for (SegmentWrite& write : *batch) records.push_back(std::move(write.record));
    Post([this, rates, records = std::move(records), status = std::move(status)] {
      compression_ = rates;
      WritesDone(records, status);
    });
  });
}

PayloadCodec EngineImpl::CodecNow() const {
  const absl::Duration raw = costs_.PredictLoad(kLargeLoad) - costs_.PredictLoad(1);
  const double bytes_per_second = static_cast<double>(kLargeLoad) / absl::ToDoubleSeconds(raw);
  return PaysToCompress(bytes_per_second, compression_) ? options_.store_codec : PayloadCodec::kRaw;
}

void EngineImpl::WritesDone(const std::vector<SegmentRecord>& records, const absl::Status& status) {
  writing_segments_ -= static_cast<int64_t>(records.size());
  for (const SegmentRecord& record : records) {
    disk_.EndWrite(record.key);
    pending_bytes_ -= record.payload_bytes;
  }
  if (absl::IsResourceExhausted(status)) {
    int64_t refused = 0;
    for (const SegmentRecord& record : records) {
      refused += record.payload_bytes;
      parts_.metrics->SegmentSkipped(WriteSkip::kNoRoom, record.payload_bytes);
    }
    return EvictFromStore(refused);
  }
  if (!status.ok()) return StoreFailed(StoreFailure::kWrite, status);
  store_failures_ = 0;
  int64_t bytes = 0;
  for (const SegmentRecord& record : records) {
    bytes += record.stored_bytes;
    if (record.codec != PayloadCodec::kRaw) {
      parts_.metrics->SegmentCompressed(PayloadCodecName(record.codec),
                                        record.payload_bytes - record.stored_bytes);
    }
    AddToDisk(record);
  }
  durable_segments_ += static_cast<int64_t>(records.size());
  parts_.metrics->SegmentsDurable(static_cast<int64_t>(records.size()), bytes);
  EvictFromStore();
}

// Indexes a durable record; it, or what it supersedes, goes when nothing can reach it.
void EngineImpl::AddToDisk(const SegmentRecord& record) {
  std::optional<std::vector<SegmentKey>> superseded = disk_.Add(record);
  if (!superseded) return DeleteFromStore({record.key});
  DeleteFromStore(*std::move(superseded));
}

// `more` is payload that did not fit: as much goes even below the limit.
void EngineImpl::EvictFromStore(int64_t more) {
  const int64_t payload = disk_.payload_bytes() + other_bytes_;
  int64_t limit = std::min({options_.max_disk_bytes, parts_.store->PayloadLimit(), payload - more});
  if (payload <= limit) return;
  if (limit < options_.max_disk_bytes) limit -= limit / kFreedShare;
  EvictOtherIdentities(limit);
  const int64_t before = disk_.payload_bytes();
  std::vector<SegmentKey> keys = disk_.EvictPast(limit - other_bytes_);
  if (keys.empty()) return;
  parts_.metrics->SegmentsEvicted(static_cast<int64_t>(keys.size()),
                                  before - disk_.payload_bytes());
  DeleteFromStore(std::move(keys));
}

// What other identities left is of no use to this one, so it gives way first.
void EngineImpl::EvictOtherIdentities(int64_t limit) {
  const int64_t room = std::max<int64_t>(limit - disk_.payload_bytes(), 0);
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
    auto records = std::make_shared<std::vector<SegmentRecord>>();
    auto listing = std::make_shared<StoreListing>(
        ListStore([&](SegmentRecord record) { records->push_back(std::move(record)); }));
    Post([this, listing, records] {
      retrying_store_ = false;
      retry_store_at_ = Now() + options_.retry_pause;
      if (!listing->status.ok()) return StoreFailed(StoreFailure::kList, listing->status);
      store_enabled_ = true;
      store_failures_ = kFailuresToSwitchOff - 1;  // on trial: one more and it is off again
      const StoreStats& stats = listing->stats;
      parts_.metrics->SetStoreGauges(
          {true, stats.segment_count, stats.payload_bytes, stats.disk_bytes, stats.buffer_bytes});
      int64_t bytes = 0;
      for (const SegmentRecord& record : *records) {
        bytes += record.stored_bytes;
        AddToDisk(record);
      }
      Adopt(std::move(*listing), bytes);
      Tell("store_switched_on");
    });
  });
}

EngineImpl::StoreListing EngineImpl::ListStore(const std::function<void(SegmentRecord)>& visit) {
  StoreListing listing;
  listing.status = parts_.store->ForEachSegment(parts_.identity, visit);
  listing.stats = parts_.store->Stats();
  if (!listing.status.ok()) return listing;
  listing.status = parts_.store->ForEachPrompt(parts_.identity, [&](PromptRecord prompt) {
    listing.prompts.emplace_back(prompt.id, std::move(prompt.ids));
  });
  return listing;
}

// `own_bytes` is payload of this identity, of what the store had.
void EngineImpl::Adopt(StoreListing&& listing, int64_t own_bytes) {
  other_bytes_ = listing.stats.payload_bytes - own_bytes;
  for (auto& [id, ids] : listing.prompts) prompts_.Restore(id, std::move(ids));
  ForgetOldPrompts();
  if (listing.status.ok()) EvictFromStore();  // the limit may have become smaller
}

}  // namespace reprise
