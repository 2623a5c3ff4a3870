#include "core/store/rocksdb_store.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/store/rocksdb_store_impl.h"
#include "core/store/segment_codec.h"

namespace reprise {
namespace {

// A value in two pieces, so that the payload is copied once, by RocksDB.
void PutSegment(rocksdb::ColumnFamilyHandle* family, const SegmentWrite& write,
                rocksdb::WriteBatch& batch) {
  const std::string header = EncodeSegmentHeader(write.record, write.payload);
  const rocksdb::Slice key = ToSlice(write.record.key);
  const rocksdb::Slice value[] = {header, ToSlice(write.payload)};
  batch.Put(family, rocksdb::SliceParts(&key, 1), rocksdb::SliceParts(value, 2));
}

}  // namespace

RocksDbStore::~RocksDbStore() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* handle : handles_) db_->DestroyColumnFamilyHandle(handle);
  db_->Close();
}

absl::Status RocksDbStore::Open() {
  std::error_code error;
  std::filesystem::create_directories(options_.path, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("cannot create ", options_.path, ": ", error.message()));
  }
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(DatabaseOptions(options_), options_.path,
                                                   FamiliesOf(options_), &handles_, &db);
  db_.reset(db);
  RETURN_IF_ERROR(FromOpen(status, options_.path));
  LowerBackgroundPriority(*db_->GetEnv());
  RETURN_IF_ERROR(Scan(kPrompts, "", [&](absl::string_view, ByteView) { ++prompt_count_; }));
  absl::MutexLock lock(&changes_);
  return options_.settle_when_listed ? absl::OkStatus() : SettleOnce();
}

// Ends what doubts can end, since a batch is written anyway, and raises those of `writes`.
absl::Status RocksDbStore::RaiseDoubts(absl::Span<const SegmentWrite> writes) {
  rocksdb::WriteBatch doubts;
  for (const SegmentKey& key : settled_) doubts.Delete(handles_[kDoubts], ToSlice(key));
  for (const SegmentWrite& write : writes) {
    doubts.Put(handles_[kDoubts], ToSlice(write.record.key), "");
  }
  RETURN_IF_ERROR(FromRocksDb(db_->Write(Synced(), &doubts), "write doubts"));
  settled_.clear();
  return absl::OkStatus();
}

absl::Status RocksDbStore::SettleOnce() {
  return filled_ ? absl::OkStatus() : Settle(nullptr, [](const SegmentRecord&) {});
}

absl::Status RocksDbStore::WriteSegments(absl::Span<const SegmentWrite> writes) {
  absl::MutexLock lock(&changes_);
  RETURN_IF_ERROR(SettleOnce());
  RETURN_IF_ERROR(DropQuarantined());
  const int64_t most = WriteBufferBytes(options_);
  std::vector<SegmentKey> taken;
  while (!writes.empty()) {
    size_t count = 0;
    int64_t bytes = 0;
    while (count < writes.size()) {
      const auto next = static_cast<int64_t>(writes[count].payload.size());
      if (count > 0 && bytes + next > most) break;
      bytes += next;
      ++count;
    }
    if (absl::Status room = MakeRoom(bytes); !room.ok()) {
      // All or none: the caller knows of no segment that it was not told of.
      if (absl::IsResourceExhausted(room)) RETURN_IF_ERROR(DeleteLocked(taken));
      return room;
    }
    RETURN_IF_ERROR(WriteTogether(writes.first(count)));
    for (const SegmentWrite& write : writes.first(count)) taken.push_back(write.record.key);
    writes.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::Status RocksDbStore::WriteTogether(absl::Span<const SegmentWrite> writes) {
  rocksdb::WriteBatch segments, records;
  std::vector<SegmentRecord> written;
  int64_t bytes = 0;
  for (const SegmentWrite& write : writes) bytes += static_cast<int64_t>(write.payload.size());
  const uint64_t cohort = NextCohort();
  for (const SegmentWrite& write : writes) {
    PutSegment(handles_[kSegments], write, segments);
    SegmentRecord record = write.record;
    record.stored_bytes = static_cast<int64_t>(write.payload.size());
    if (record.codec == PayloadCodec::kRaw) record.payload_bytes = record.stored_bytes;
    record.cohort_bytes = bytes;
    record.cohort = cohort;
    records.Put(handles_[kRecords], RecordKey(record.identity, record.start_position, record.key),
                EncodeRecord(record));
    written.push_back(std::move(record));
  }
  RETURN_IF_ERROR(RaiseDoubts(writes));
  RETURN_IF_ERROR(FromRocksDb(db_->Write(WithoutWal(), &segments), "write segments"));
  RETURN_IF_ERROR(FlushSegments());
  // Segments are durable now, so their records may become so.
  RETURN_IF_ERROR(FromRocksDb(db_->Write(Synced(), &records), "write records"));
  absl::MutexLock lock(&mutex_);
  for (const SegmentRecord& record : written) {
    ledger_.Put(record);
    quarantined_.erase(record.key);
    settled_.insert(record.key);
  }
  written_bytes_ += bytes;
  return absl::OkStatus();
}

uint64_t RocksDbStore::NextCohort() const {
  absl::MutexLock lock(&mutex_);
  return ledger_.next_cohort();
}

// Makes what was written and what was removed durable.
absl::Status RocksDbStore::FlushSegments() {
  RETURN_IF_ERROR(
      FromRocksDb(db_->Flush(rocksdb::FlushOptions(), handles_[kSegments]), "flush segments"));
  settled_.merge(removed_);
  removed_.clear();
  return absl::OkStatus();
}

absl::Status RocksDbStore::ReadSegment(const SegmentRecord& record, MutableByteView out) {
  return ReadValue(record, [&](ByteView value) { return DecodeSegment(value, record, out); });
}

absl::Status RocksDbStore::ReadSegmentInto(const SegmentRecord& record, const PayloadSink& sink) {
  return ReadValue(record, [&](ByteView value) { return DecodeSegmentInto(value, record, sink); });
}

absl::Status RocksDbStore::ReadValue(const SegmentRecord& record,
                                     absl::FunctionRef<absl::Status(ByteView value)> decode) {
  {
    absl::MutexLock lock(&mutex_);
    if (ledger_.Find(record.key) == nullptr || quarantined_.contains(record.key)) {
      return absl::NotFoundError("read segment: there is none under this key");
    }
  }
  rocksdb::ReadOptions read;
  read.verify_checksums = false;  // the codec's own checksum covers the value and is faster
  read.fill_cache = false;
  rocksdb::PinnableSlice value;
  const rocksdb::Status got = db_->Get(read, handles_[kSegments], ToSlice(record.key), &value);
  if (!got.ok() && !got.IsNotFound() && !got.IsCorruption()) {
    return FromRocksDb(got, "read segment");
  }
  absl::Status status = FromRocksDb(got, "read segment");
  if (status.ok()) status = decode(AsBytes(absl::string_view(value.data(), value.size())));
  if (status.ok()) {
    read_bytes_ += record.payload_bytes;
    return status;
  }
  if (!absl::IsDataLoss(status) && !absl::IsNotFound(status)) return status;  // the caller's
  if (absl::IsDataLoss(status)) ++corrupt_count_;
  value.Reset();
  Quarantine(record.key);
  return status;
}

// A segment that failed once is never offered again. It goes now, or after the write
// that goes on: a reader does not wait for that.
void RocksDbStore::Quarantine(const SegmentKey& key) {
  {
    absl::MutexLock lock(&mutex_);
    quarantined_.insert(key);
  }
  if (!changes_.TryLock()) return;
  DropQuarantined().IgnoreError();  // what stays is tried again with the next change
  changes_.Unlock();
}

absl::Status RocksDbStore::DropQuarantined() {
  Keys keys;
  {
    absl::MutexLock lock(&mutex_);
    keys.assign(quarantined_.begin(), quarantined_.end());
  }
  if (keys.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(DeleteLocked(keys));
  absl::MutexLock lock(&mutex_);
  for (const SegmentKey& key : keys) quarantined_.erase(key);
  return absl::OkStatus();
}

absl::Status RocksDbStore::DeleteSegments(absl::Span<const SegmentKey> keys) {
  absl::MutexLock lock(&changes_);
  RETURN_IF_ERROR(SettleOnce());
  return DeleteLocked(keys);
}

absl::Status RocksDbStore::DeleteLocked(absl::Span<const SegmentKey> keys) {
  rocksdb::WriteBatch records, segments;
  Keys removed;
  {
    absl::MutexLock lock(&mutex_);
    for (const SegmentKey& key : keys) {
      const SegmentLedger::Entry* known = ledger_.Find(key);
      if (known == nullptr) continue;
      records.Delete(handles_[kRecords],
                     RecordKey(ledger_.identity(*known), known->start_position, key));
      records.Put(handles_[kDoubts], ToSlice(key), "");
      segments.Delete(handles_[kSegments], ToSlice(key));
      ledger_.Remove(key);
      removed.push_back(key);
    }
  }
  if (removed.empty()) return absl::OkStatus();
  for (const SegmentKey& key : removed) settled_.erase(key);
  RETURN_IF_ERROR(FromRocksDb(db_->Write(Synced(), &records), "delete records"));
  RETURN_IF_ERROR(FromRocksDb(db_->Write(WithoutWal(), &segments), "delete segments"));
  removed_.insert(removed.begin(), removed.end());
  compacted_ = false;
  return absl::OkStatus();
}

absl::StatusOr<Evicted> RocksDbStore::EvictOthers(absl::Span<const Digest> kept,
                                                  int64_t max_bytes) {
  absl::MutexLock lock(&changes_);
  RETURN_IF_ERROR(SettleOnce());
  return EvictLocked(kept, max_bytes, {});
}

absl::StatusOr<Evicted> RocksDbStore::EvictLocked(absl::Span<const Digest> kept, int64_t max_bytes,
                                                  const Turns& turns) {
  std::vector<EvictionCandidate> candidates;
  {
    absl::MutexLock lock(&mutex_);
    candidates = ledger_.Candidates(kept);
  }
  for (EvictionCandidate& candidate : candidates) {
    const auto turn = turns.find(candidate.key);
    if (turn != turns.end()) candidate.turn = turn->second;
  }
  const EvictionChoice choice = ChooseEvictions(std::move(candidates), max_bytes);
  if (choice.keys.empty()) return Evicted();
  RETURN_IF_ERROR(DeleteLocked(choice.keys));
  for (const Digest& emptied : choice.emptied) RETURN_IF_ERROR(DeletePromptsOf(emptied));
  return Evicted{static_cast<int64_t>(choice.keys.size()), choice.payload_bytes};
}

StoreStats RocksDbStore::Stats() const {
  StoreStats stats;
  {
    absl::MutexLock lock(&mutex_);
    stats.segment_count = static_cast<int64_t>(ledger_.size());
    stats.payload_bytes = ledger_.stored_bytes();
  }
  stats.prompt_count = prompt_count_;
  stats.read_bytes = read_bytes_;
  stats.written_bytes = written_bytes_;
  stats.corrupt_count = corrupt_count_;
  for (rocksdb::ColumnFamilyHandle* family : handles_) {
    for (const std::string& use :
         {rocksdb::DB::Properties::kSizeAllMemTables, rocksdb::DB::Properties::kBlockCacheUsage}) {
      uint64_t bytes = 0;
      if (db_->GetIntProperty(family, use, &bytes))
        stats.buffer_bytes += static_cast<int64_t>(bytes);
    }
  }
  stats.disk_bytes = MeasureDiskUse(options_.path).total_bytes;
  stats.limit_bytes = options_.max_disk_bytes;
  stats.free_bytes = FreeDiskBytes(options_.path);
  return stats;
}

absl::StatusOr<std::unique_ptr<KvStore>> OpenRocksDbStore(const RocksDbOptions& options) {
  auto store = std::make_unique<RocksDbStore>(options);
  RETURN_IF_ERROR(store->Open());
  return store;
}

}  // namespace reprise
