#include <algorithm>

#include "core/engine/engine_impl.h"
#include "core/engine/store_gauges.h"

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
  CacheNamespace& in = *sequence.cache;
  blocks_.Commit(in.id, ids, absl::MakeSpan(sequence.blocks), /*whole_blocks_only=*/false);
  if (StoreOn()) QueueSegments(in, ids, sequence.blocks, sequence.request.writes_at_once);
  if (ModeOf(sequence) != RetrievalMode::kPrefix) QueueEmbedding(sequence);
}

int64_t EngineImpl::PayloadBytes(size_t tokens) const {
  return BlocksFor(static_cast<int32_t>(tokens)) * parts_.runner->block_bytes();
}

// What keeps a segment, and with it those behind it, from being written now.
std::optional<EngineImpl::NotNow> EngineImpl::WhyNotNow(CacheNamespace& in,
                                                        const SegmentRecord& record, bool idle) {
  const int64_t bytes = PayloadBytes(record.ids.size());
  if (options_.write_selectively && !idle) {
    const auto tokens = static_cast<int32_t>(record.ids.size());
    const auto decision =
        in.write_admission.Decide(record.key, costs_.PredictPrefill(tokens, record.start_position),
                                  costs_.PredictLoad(bytes));
    if (decision == WriteAdmission::Decision::kNever) return NotNow{WriteSkip::kNoBenefit};
    if (decision == WriteAdmission::Decision::kWhenIdle) return NotNow{};
  }
  const bool full = pending_bytes_ + bytes > options_.max_pending_write_bytes;
  return full ? std::optional(NotNow{WriteSkip::kQueueFull}) : std::nullopt;
}

// With `idle`, first uses are written too, and what would not be loaded.
void EngineImpl::QueueSegments(CacheNamespace& in, absl::Span<const TokenId> ids,
                               absl::Span<const BlockId> blocks, bool idle) {
  std::optional<NotNow> not_now;  // of one segment and all behind it, as the next
  bool over_quota = false;
  std::vector<PrefixIndex::NodeId> kept;
  if (const auto found = in.disk.index().FindWhole(ids); !found.hits.empty()) {
    kept.push_back(found.hits.back().node);
  }
  for (SegmentRecord& record : in.disk.Missing(ids)) {
    if (!not_now && !over_quota) not_now = WhyNotNow(in, record, idle);
    if (!not_now) {
      over_quota = over_quota || !MakeRoomToWrite(in, PayloadBytes(record.ids.size()), kept);
      if (over_quota) {
        parts_.metrics->SegmentOverQuota(in.spec->name);
      } else {
        TakeMarks(in, ids, record);
        QueueSegment(in, std::move(record), blocks);
      }
    } else if (not_now->skip) {
      parts_.metrics->SegmentSkipped(*not_now->skip, PayloadBytes(record.ids.size()));
    } else {
      WhyNotNow(in, record, idle);  // seen once
    }
  }
  if (!not_now || not_now->skip) return;
  if (in.write_admission.Defer({ids.begin(), ids.end()})) return;
  parts_.metrics->SegmentSkipped(WriteSkip::kQueueFull, 0);
}

// What was asked of an entry in memory holds for its segments from the first. A pin belongs to
// one segment: to the first that has all of the pinned entry.
void EngineImpl::TakeMarks(const CacheNamespace& in, absl::Span<const TokenId> ids,
                           SegmentRecord& record) const {
  const absl::Span<const TokenId> path =
      ids.first(static_cast<size_t>(record.start_position) + record.ids.size());
  const SegmentMarks marks = blocks_.MarksOf(in.id, path, record.start_position);
  const auto pinned = static_cast<size_t>(marks.pinned_tokens);
  record.pinned = pinned > 0 && in.disk.MatchedTokens(path.first(pinned)) < marks.pinned_tokens;
  if (marks.expires != absl::InfiniteFuture()) {
    record.expires_unix_ms = absl::ToUnixMillis(marks.expires);
  }
}

// Within the namespace's quota; its own entries give way in the order of its DiskCache. What
// that leaves is deleted before anything queued from now on is written. The segments `kept`,
// which what is written hangs from, stay.
bool EngineImpl::MakeRoomToWrite(CacheNamespace& in, int64_t bytes,
                                 absl::Span<const PrefixIndex::NodeId> kept) {
  const int64_t quota = in.spec->quota.disk_bytes;
  if (quota == 0) return true;
  const int64_t room = quota - in.pending_bytes - bytes;
  if (room < 0) return false;
  const int64_t before = in.disk.payload_bytes();
  std::vector<SegmentKey> keys = in.disk.EvictPast(room, kept);
  DeleteEvicted(std::move(keys), before - in.disk.payload_bytes());
  return in.disk.payload_bytes() <= room;
}

void EngineImpl::QueueSegment(CacheNamespace& in, SegmentRecord&& record,
                              absl::Span<const BlockId> blocks) {
  record.payload_bytes = PayloadBytes(record.ids.size());
  pending_bytes_ += record.payload_bytes;
  in.pending_bytes += record.payload_bytes;
  record.created_unix_ms = record.last_used_unix_ms = absl::ToUnixMillis(parts_.clock->Now());
  PendingCopy copy;
  const size_t first = record.start_position / kBlockTokens;
  const auto count = static_cast<size_t>(BlocksFor(static_cast<int32_t>(record.ids.size())));
  for (const BlockId block : blocks.subspan(first, count)) {
    blocks_.Hold(block);
    copy.blocks.push_back(block);
  }
  in.disk.BeginWrite(record.key);
  copy.record = std::move(record);
  copies_.push_back(std::move(copy));
  ++copies_queued_;
}

// One segment a turn, so that copying never holds up a step for long.
void EngineImpl::CopyOneSegment() {
  if (copies_.empty()) return;
  PendingCopy copy = std::move(copies_.front());
  copies_.pop_front();
  ++copies_done_;
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
  if (writes_bytes_ >= options_.write_batch_bytes) FlushWrites();
}

// Of a segment on its way to the store: it is there now, or will never be.
void EngineImpl::EndWrite(const SegmentRecord& record) {
  CacheNamespace& in = *by_identity_.at(record.identity);
  pending_bytes_ -= record.payload_bytes;
  in.pending_bytes -= record.payload_bytes;
  in.disk.EndWrite(record.key);
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
  for (const SegmentRecord& record : records) EndWrite(record);
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
  std::optional<std::vector<SegmentKey>> superseded = NamespaceOf(record.identity).disk.Add(record);
  if (!superseded) return DeleteFromStore({record.key});
  DeleteFromStore(*std::move(superseded));
}

// The namespace that holds most gives way, a sixteenth of what it has at a time. `more` is
// payload that did not fit: as much goes even below the limit.
void EngineImpl::EvictFromStore(int64_t more) {
  const int64_t payload = DiskPayloadBytes() + other_bytes_;
  int64_t limit = std::min({options_.max_disk_bytes, parts_.store->PayloadLimit(), payload - more});
  if (payload <= limit) return;
  if (limit < options_.max_disk_bytes) limit -= limit / kFreedShare;
  EvictOtherIdentities(limit);
  absl::flat_hash_set<const CacheNamespace*> spent;  // only pinned segments are left
  while (true) {
    const int64_t excess = DiskPayloadBytes() + other_bytes_ - limit;
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
void EngineImpl::EvictOtherIdentities(int64_t limit) {
  const int64_t room = std::max<int64_t>(limit - DiskPayloadBytes(), 0);
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
    auto records = std::make_shared<std::vector<SegmentRecord>>();
    auto listing = std::make_shared<StoreListing>(
        ListStore([&](SegmentRecord record) { records->push_back(std::move(record)); }));
    Post([this, listing, records] {
      retrying_store_ = false;
      retry_store_at_ = Now() + options_.retry_pause;
      if (!listing->status.ok()) return StoreFailed(StoreFailure::kList, listing->status);
      store_enabled_ = true;
      store_failures_ = kFailuresToSwitchOff - 1;  // on trial: one more and it is off again
      parts_.metrics->SetStoreGauges(ToStoreGauges(true, listing->stats));
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
  for (const NamespaceSpec& spec : parts_.namespaces) {
    listing.status = parts_.store->ForEachSegment(spec.identity, visit);
    if (!listing.status.ok()) break;
  }
  listing.stats = parts_.store->Stats();
  for (size_t spec = 0; spec < parts_.namespaces.size() && listing.status.ok(); ++spec) {
    NamespaceListing& in = listing.namespaces.emplace_back();
    const Digest& identity = parts_.namespaces[spec].identity;
    listing.status = parts_.store->ForEachPrompt(identity, [&](PromptRecord prompt) {
      if (spec == 0) prompt.embedding = {};  // its index is filled elsewhere
      in.prompts.push_back(std::move(prompt));
    });
  }
  return listing;
}

// `own_bytes` is payload of the namespaces, of what the store had.
void EngineImpl::Adopt(StoreListing&& listing, int64_t own_bytes) {
  other_bytes_ = listing.stats.payload_bytes - own_bytes;
  for (size_t spec = 0; spec < listing.namespaces.size(); ++spec) {
    if (listing.namespaces[spec].prompts.empty()) continue;
    CacheNamespace& in = Open(spec);
    for (PromptRecord& prompt : listing.namespaces[spec].prompts) {
      // The first namespace's index was filled before; a vector that does not fit is only not
      // found.
      if (spec > 0 && in.vectors != nullptr && !in.vectors->Contains(prompt.id)) {
        in.vectors->Add(prompt.id, prompt.embedding).IgnoreError();
      }
      in.prompts.Restore(prompt.id, std::move(prompt.ids));
    }
  }
  ForgetOldPrompts();
  if (!listing.status.ok()) return;
  // The limits may have become smaller.
  ForEachNamespace([this](CacheNamespace& in) { MakeRoomToWrite(in, 0, {}); });
  EvictFromStore();
}

}  // namespace reprise
