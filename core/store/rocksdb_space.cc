// How RocksDbStore keeps its files below the disk limit.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "core/store/rocksdb_store_impl.h"
#include "core/store/segment_codec.h"

namespace reprise {
namespace {

// Of what blob files may take. The rest lets files with dead segments stay until they
// are empty enough to be worth writing the others anew.
constexpr double kMostAlive = 0.85;

constexpr int kMaxRounds = 16;

// A reader can hold a file that was freed for a moment.
constexpr absl::Duration kReaderPause = absl::Milliseconds(10);

}  // namespace

// Kept free below the limit: logs grow, and a compaction of the small families has
// its input and its output for a while.
int64_t RocksDbStore::HeldBack(const DiskUse& use) const {
  return 4 * SmallBufferBytes(options_) + (use.total_bytes - use.blob_bytes) / 2;
}

DiskUse RocksDbStore::MeasureDisk() {
  const DiskUse use = MeasureDiskUse(options_.path);
  if (options_.max_disk_bytes == 0) return use;
  const int64_t others = use.total_bytes - use.blob_bytes + HeldBack(use);
  const int64_t for_blobs = std::max<int64_t>(options_.max_disk_bytes - others, 0);
  payload_limit_ = static_cast<int64_t>(kMostAlive * static_cast<double>(for_blobs));
  return use;
}

// Frees the files in which nothing lives.
absl::Status RocksDbStore::CompactSegments() {
  RETURN_IF_ERROR(FlushSegments());
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  RETURN_IF_ERROR(FromRocksDb(db_->CompactRange(options, handles_[kSegments], nullptr, nullptr),
                              "compact segments"));
  compacted_ = true;
  return absl::OkStatus();
}

// Whether files will go by the next compaction, after what is left in them was written anew.
absl::StatusOr<bool> RocksDbStore::RewriteEmptiest(int64_t max_bytes) {
  Keys keys;
  {
    absl::MutexLock lock(&mutex_);
    keys = ledger_.ToRewrite(max_bytes);
  }
  if (keys.empty()) return false;
  RETURN_IF_ERROR(Rewrite(keys));
  compacted_ = false;
  return true;
}

// A crash in between leaves records that name the old cohort: such a segment is only
// written anew once more than it need be.
absl::Status RocksDbStore::Rewrite(const Keys& keys) {
  rocksdb::WriteBatch segments, batch;
  std::vector<SegmentRecord> records;
  int64_t bytes = 0;
  rocksdb::ReadOptions read;
  read.verify_checksums = false;  // the value keeps its own, which its reader checks
  read.fill_cache = false;
  for (const SegmentKey& key : keys) {
    rocksdb::PinnableSlice value;
    const rocksdb::Status got = db_->Get(read, handles_[kSegments], ToSlice(key), &value);
    absl::StatusOr<SegmentRecord> record = ReadRecord(key);
    if (!got.ok() && !got.IsNotFound() && !got.IsCorruption()) {
      return FromRocksDb(got, "read segment");
    }
    if (absl::IsUnavailable(record.status())) return record.status();
    if (!got.ok() || !record.ok()) {  // what cannot be kept goes
      RETURN_IF_ERROR(DeleteLocked({key}));
      continue;
    }
    segments.Put(handles_[kSegments], ToSlice(key), value);
    bytes += record->stored_bytes;
    records.push_back(*std::move(record));
  }
  const uint64_t cohort = NextCohort();
  for (SegmentRecord& record : records) {
    record.cohort = cohort;
    record.cohort_bytes = bytes;
    batch.Put(handles_[kRecords], RecordKey(record.identity, record.start_position, record.key),
              EncodeRecord(record));
  }
  RETURN_IF_ERROR(FromRocksDb(db_->Write(WithoutWal(), &segments), "rewrite segments"));
  RETURN_IF_ERROR(FlushSegments());
  RETURN_IF_ERROR(FromRocksDb(db_->Write(Synced(), &batch), "rewrite records"));
  absl::MutexLock lock(&mutex_);
  for (const SegmentRecord& record : records) ledger_.Put(record);
  return absl::OkStatus();
}

// Room for `incoming` bytes below the limit, or at least for one write buffer above it.
absl::Status RocksDbStore::MakeRoom(int64_t incoming) {
  const int64_t limit = options_.max_disk_bytes;
  if (limit == 0) return absl::OkStatus();
  DiskUse use = MeasureDisk();
  for (int round = 0; round < kMaxRounds; ++round) {
    const int64_t free = limit - use.total_bytes - HeldBack(use);
    if (free >= incoming) return absl::OkStatus();
    if (!compacted_) {
      RETURN_IF_ERROR(CompactSegments());
    } else {
      const int64_t buffer = WriteBufferBytes(options_);
      ASSIGN_OR_RETURN(const bool freed, RewriteEmptiest(std::min(free + buffer, buffer)));
      if (!freed) break;
    }
    const int64_t before = use.total_bytes;
    use = MeasureDisk();
    if (compacted_ && use.total_bytes >= before) {
      absl::SleepFor(kReaderPause);
      use = MeasureDisk();
    }
  }
  if (use.total_bytes + HeldBack(use) <= limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(options_.path, " takes ", use.total_bytes,
                                                   " bytes, the limit is ", limit, " bytes"));
}

// The segments that have another turn than the usual one: what has expired and leads to nothing
// else, and what is pinned with all that leads to it.
absl::StatusOr<RocksDbStore::Turns> RocksDbStore::FindTurns() {
  const int64_t now = absl::ToUnixMillis(absl::Now());
  absl::flat_hash_map<SegmentKey, SegmentKey, SegmentKeyHash> expired;  // with their parents
  std::vector<SegmentRecord> pinned;
  RETURN_IF_ERROR(Scan(kRecords, "", [&](absl::string_view, ByteView value) {
    const auto record = DecodeRecordFacts(value);
    if (!record.ok()) return;
    if (record->pinned) pinned.push_back(*record);
    const int64_t at = record->expires_unix_ms;
    if (!record->pinned && at > 0 && at <= now) {
      expired.emplace(record->key, record->parent);
      return;
    }
    // Parents are scanned before their children.
    auto parent = expired.find(record->parent);
    while (parent != expired.end()) {
      const SegmentKey above = parent->second;
      expired.erase(parent);
      parent = expired.find(above);
    }
  }));
  Turns turns;
  for (const auto& [key, parent] : expired) turns[key] = EvictionTurn::kExpired;
  for (SegmentRecord& record : pinned) {
    while (turns.try_emplace(record.key, EvictionTurn::kPinned).second) {
      auto parent = ReadRecord(record.parent);
      if (absl::IsUnavailable(parent.status())) return parent.status();
      if (!parent.ok()) break;  // it is the first, or lost
      record = *std::move(parent);
    }
  }
  return turns;
}

// The limit may have become smaller, or a crash left more than there should be.
absl::Status RocksDbStore::KeepLimitOnOpen() {
  const int64_t limit = options_.max_disk_bytes;
  DiskUse use = MeasureDisk();
  if (limit == 0 || use.total_bytes <= limit) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Turns turns, FindTurns());
  double share = 1.0;
  for (int round = 0; round < kMaxRounds; ++round, share *= 0.7) {
    if (use.total_bytes <= limit) return absl::OkStatus();
    const auto most = static_cast<int64_t>(share * static_cast<double>(PayloadLimit()));
    RETURN_IF_ERROR(EvictLocked({}, most, turns).status());
    RETURN_IF_ERROR(CompactSegments());
    use = MeasureDisk();
  }
  return absl::OkStatus();
}

}  // namespace reprise
