#include "core/store/rocksdb_store.h"

#include <rocksdb/db.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/base/status_macros.h"
#include "core/store/eviction_choice.h"
#include "core/store/rocksdb_setup.h"
#include "core/store/segment_codec.h"

namespace reprise {
namespace {

using rocksdb::ColumnFamilyHandle;

std::string BigEndian(uint64_t value) {
  std::string text(8, '\0');
  for (int i = 7; i >= 0; --i, value >>= 8) text[i] = static_cast<char>(value & 0xFF);
  return text;
}

// Scans of one identity give parents before children.
template <typename Segment>
std::string RecordKey(const Segment& segment) {
  return absl::StrCat(AsText(segment.identity), BigEndian(segment.start_position),
                      AsText(segment.key));
}

std::string PromptKey(const Digest& identity, uint64_t id) {
  return absl::StrCat(AsText(identity), BigEndian(id));
}

class RocksDbStore final : public KvStore {
 public:
  explicit RocksDbStore(RocksDbOptions options) : options_(std::move(options)) {}

  ~RocksDbStore() override {
    if (db_ == nullptr) return;
    for (ColumnFamilyHandle* handle : handles_) db_->DestroyColumnFamilyHandle(handle);
    db_->Close();
  }

  absl::Status Open();
  absl::Status WriteSegments(absl::Span<const SegmentWrite> writes) override;
  absl::Status ReadSegment(const SegmentRecord& record, MutableByteView out) override;
  absl::Status DeleteSegments(absl::Span<const SegmentKey> keys) override;
  absl::StatusOr<Evicted> EvictOthers(absl::Span<const Digest> kept, int64_t max_bytes) override;
  absl::Status UpdateUsage(absl::Span<const SegmentRecord> records) override;
  absl::Status ForEachSegment(const Digest& identity,
                              const std::function<void(SegmentRecord)>& visit) override;
  absl::Status WritePrompt(const PromptRecord& prompt) override;
  absl::Status DeletePrompt(const Digest& identity, uint64_t id) override;
  absl::Status ForEachPrompt(const Digest& identity,
                             const std::function<void(PromptRecord)>& visit) override;
  StoreStats Stats() const override;

 private:
  absl::Status ScanRecords();
  absl::Status RemoveOrphans();
  absl::Status RaiseDoubts(absl::Span<const SegmentWrite> writes);
  absl::Status DeletePromptsOf(const Digest& identity);
  void Remember(const SegmentRecord& record);
  absl::Status Scan(Family family, const std::string& prefix,
                    const std::function<void(const std::string& key, ByteView value)>& visit);

  RocksDbOptions options_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<ColumnFamilyHandle*> handles_;  // by Family; owned by db_
  mutable absl::Mutex mutex_;
  std::map<SegmentKey, EvictionCandidate> known_ ABSL_GUARDED_BY(mutex_);
  int64_t payload_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Mutex doubts_mutex_;  // held while doubts are raised or laid
  std::set<SegmentKey> removed_ ABSL_GUARDED_BY(doubts_mutex_);  // not flushed yet
  std::set<SegmentKey> settled_ ABSL_GUARDED_BY(doubts_mutex_);  // whose doubt can go
  std::atomic<int64_t> prompt_count_{0};
  std::atomic<int64_t> read_bytes_{0};
  std::atomic<int64_t> written_bytes_{0};
  std::atomic<int64_t> corrupt_count_{0};
};

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
  RETURN_IF_ERROR(ScanRecords());
  return RemoveOrphans();
}

absl::Status RocksDbStore::ScanRecords() {
  rocksdb::WriteBatch unreadable;
  RETURN_IF_ERROR(Scan(kRecords, "", [&](const std::string& key, ByteView value) {
    if (const auto record = DecodeRecord(value); record.ok() && RecordKey(*record) == key) {
      Remember(*record);
      return;
    }
    ++corrupt_count_;
    unreadable.Delete(handles_[kRecords], key);
    // The key of the segment, which no record names from now on, ends the record's own.
    if (key.size() > sizeof(SegmentKey)) {
      unreadable.Put(handles_[kDoubts], key.substr(key.size() - sizeof(SegmentKey)), "");
    }
  }));
  RETURN_IF_ERROR(
      FromRocksDb(db_->Write(rocksdb::WriteOptions(), &unreadable), "delete unreadable records"));
  return Scan(kPrompts, "", [&](const std::string&, ByteView) { ++prompt_count_; });
}

// Removes the segments in doubt that no record names: what a crash left between a
// segment and its record, or between the end of a record and that of its segment.
absl::Status RocksDbStore::RemoveOrphans() {
  rocksdb::WriteBatch orphans, doubts;
  RETURN_IF_ERROR(Scan(kDoubts, "", [&](const std::string& key, ByteView) {
    doubts.Delete(handles_[kDoubts], key);
    SegmentKey segment{};
    if (key.size() != segment.size()) return;
    std::copy(key.begin(), key.end(), segment.begin());
    absl::MutexLock lock(&mutex_);
    if (!known_.contains(segment)) orphans.Delete(handles_[kSegments], key);
  }));
  if (doubts.Count() == 0) return absl::OkStatus();
  RETURN_IF_ERROR(FromRocksDb(db_->Write(WithoutWal(), &orphans), "delete orphans"));
  RETURN_IF_ERROR(
      FromRocksDb(db_->Flush(rocksdb::FlushOptions(), handles_[kSegments]), "flush orphans"));
  return FromRocksDb(db_->Write(rocksdb::WriteOptions(), &doubts), "end doubts");
}

void RocksDbStore::Remember(const SegmentRecord& record) {
  absl::MutexLock lock(&mutex_);
  EvictionCandidate& known = known_[record.key];
  payload_bytes_ += record.payload_bytes - known.payload_bytes;
  known = {record.key, record.identity, record.start_position, record.payload_bytes,
           record.last_used_unix_ms};
}

// Ends what doubts can end, since a batch is written anyway, and raises those of `writes`.
absl::Status RocksDbStore::RaiseDoubts(absl::Span<const SegmentWrite> writes) {
  absl::MutexLock lock(&doubts_mutex_);
  rocksdb::WriteBatch doubts;
  for (const SegmentKey& key : settled_) doubts.Delete(handles_[kDoubts], ToSlice(key));
  for (const SegmentWrite& write : writes) {
    doubts.Put(handles_[kDoubts], ToSlice(write.record.key), "");
  }
  RETURN_IF_ERROR(FromRocksDb(db_->Write(Synced(), &doubts), "write doubts"));
  settled_.clear();
  return absl::OkStatus();
}

absl::Status RocksDbStore::WriteSegments(absl::Span<const SegmentWrite> writes) {
  rocksdb::WriteBatch segments, records;
  for (const SegmentWrite& write : writes) {
    SegmentRecord record = write.record;
    record.payload_bytes = static_cast<int64_t>(write.payload.size());
    segments.Put(handles_[kSegments], ToSlice(record.key), EncodeSegment(record, write.payload));
    records.Put(handles_[kRecords], RecordKey(record), EncodeRecord(record));
  }
  RETURN_IF_ERROR(RaiseDoubts(writes));
  std::set<SegmentKey> flushed;
  {
    absl::MutexLock lock(&doubts_mutex_);
    flushed = removed_;
  }
  RETURN_IF_ERROR(FromRocksDb(db_->Write(WithoutWal(), &segments), "write segments"));
  RETURN_IF_ERROR(
      FromRocksDb(db_->Flush(rocksdb::FlushOptions(), handles_[kSegments]), "flush segments"));
  // Segments are durable now, so their records may become so.
  RETURN_IF_ERROR(FromRocksDb(db_->Write(Synced(), &records), "write records"));
  absl::MutexLock lock(&doubts_mutex_);
  for (const SegmentWrite& write : writes) {
    SegmentRecord record = write.record;
    record.payload_bytes = static_cast<int64_t>(write.payload.size());
    Remember(record);
    written_bytes_ += record.payload_bytes;
    settled_.insert(record.key);
  }
  for (const SegmentKey& key : flushed) removed_.erase(key);
  settled_.merge(flushed);
  return absl::OkStatus();
}

absl::Status RocksDbStore::ReadSegment(const SegmentRecord& record, MutableByteView out) {
  rocksdb::ReadOptions read;
  read.verify_checksums = false;  // the codec's own checksum covers the value and is faster
  read.fill_cache = false;
  rocksdb::PinnableSlice value;
  const rocksdb::Status got = db_->Get(read, handles_[kSegments], ToSlice(record.key), &value);
  if (!got.ok() && !got.IsNotFound() && !got.IsCorruption()) {
    return FromRocksDb(got, "read segment");
  }
  absl::Status status = FromRocksDb(got, "read segment");
  if (status.ok()) {
    status = DecodeSegment(AsBytes(absl::string_view(value.data(), value.size())), record, out);
  }
  if (status.ok()) {
    read_bytes_ += static_cast<int64_t>(out.size());
    return status;
  }
  // Quarantine: a segment that failed once is never offered again.
  if (absl::IsDataLoss(status)) ++corrupt_count_;
  DeleteSegments({record.key}).IgnoreError();
  return status;
}

absl::Status RocksDbStore::DeleteSegments(absl::Span<const SegmentKey> keys) {
  rocksdb::WriteBatch records, segments;
  absl::MutexLock doubts_lock(&doubts_mutex_);
  std::vector<SegmentKey> removed;
  {
    absl::MutexLock lock(&mutex_);
    for (const SegmentKey& key : keys) {
      const auto found = known_.find(key);
      if (found == known_.end()) continue;
      records.Delete(handles_[kRecords], RecordKey(found->second));
      records.Put(handles_[kDoubts], ToSlice(key), "");
      segments.Delete(handles_[kSegments], ToSlice(key));
      payload_bytes_ -= found->second.payload_bytes;
      known_.erase(found);
      removed.push_back(key);
    }
  }
  for (const SegmentKey& key : removed) settled_.erase(key);
  RETURN_IF_ERROR(FromRocksDb(db_->Write(Synced(), &records), "delete records"));
  RETURN_IF_ERROR(FromRocksDb(db_->Write(WithoutWal(), &segments), "delete segments"));
  removed_.insert(removed.begin(), removed.end());
  return absl::OkStatus();
}

absl::StatusOr<Evicted> RocksDbStore::EvictOthers(absl::Span<const Digest> kept,
                                                  int64_t max_bytes) {
  std::vector<EvictionCandidate> candidates;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [key, known] : known_) {
      if (!Contains(kept, known.identity)) candidates.push_back(known);
    }
  }
  const EvictionChoice choice = ChooseEvictions(std::move(candidates), max_bytes);
  if (choice.keys.empty()) return Evicted();
  RETURN_IF_ERROR(DeleteSegments(choice.keys));
  for (const Digest& emptied : choice.emptied) RETURN_IF_ERROR(DeletePromptsOf(emptied));
  return Evicted{static_cast<int64_t>(choice.keys.size()), choice.payload_bytes};
}

absl::Status RocksDbStore::DeletePromptsOf(const Digest& identity) {
  rocksdb::WriteBatch prompts;
  RETURN_IF_ERROR(
      Scan(kPrompts, std::string(AsText(identity)),
           [&](const std::string& key, ByteView) { prompts.Delete(handles_[kPrompts], key); }));
  RETURN_IF_ERROR(FromRocksDb(db_->Write(rocksdb::WriteOptions(), &prompts), "delete prompts"));
  prompt_count_ -= prompts.Count();
  return absl::OkStatus();
}

absl::Status RocksDbStore::UpdateUsage(absl::Span<const SegmentRecord> records) {
  rocksdb::WriteBatch batch;
  for (const SegmentRecord& record : records) {
    absl::MutexLock lock(&mutex_);
    if (!known_.contains(record.key)) continue;
    batch.Put(handles_[kRecords], RecordKey(record), EncodeRecord(record));
  }
  return FromRocksDb(db_->Write(rocksdb::WriteOptions(), &batch), "update usage");
}

absl::Status RocksDbStore::Scan(
    Family family, const std::string& prefix,
    const std::function<void(const std::string& key, ByteView value)>& visit) {
  const std::unique_ptr<rocksdb::Iterator> it(
      db_->NewIterator(rocksdb::ReadOptions(), handles_[family]));
  for (it->Seek(prefix); it->Valid() && it->key().starts_with(prefix); it->Next()) {
    visit(it->key().ToString(), AsBytes(absl::string_view(it->value().data(), it->value().size())));
  }
  return FromRocksDb(it->status(), absl::StrCat("scan ", kFamilyNames[family]));
}

absl::Status RocksDbStore::ForEachSegment(const Digest& identity,
                                          const std::function<void(SegmentRecord)>& visit) {
  return Scan(kRecords, std::string(AsText(identity)), [&](const std::string& key, ByteView value) {
    auto record = DecodeRecord(value);
    if (record.ok() && RecordKey(*record) == key) {
      visit(*std::move(record));
    } else {
      ++corrupt_count_;
    }
  });
}

absl::Status RocksDbStore::WritePrompt(const PromptRecord& prompt) {
  const std::string key = PromptKey(prompt.identity, prompt.id);
  std::string existing;
  const bool known = db_->Get(rocksdb::ReadOptions(), handles_[kPrompts], key, &existing).ok();
  RETURN_IF_ERROR(
      FromRocksDb(db_->Put(rocksdb::WriteOptions(), handles_[kPrompts], key, EncodePrompt(prompt)),
                  "write prompt"));
  if (!known) ++prompt_count_;
  return absl::OkStatus();
}

absl::Status RocksDbStore::DeletePrompt(const Digest& identity, uint64_t id) {
  const std::string key = PromptKey(identity, id);
  std::string existing;
  const bool known = db_->Get(rocksdb::ReadOptions(), handles_[kPrompts], key, &existing).ok();
  RETURN_IF_ERROR(
      FromRocksDb(db_->Delete(rocksdb::WriteOptions(), handles_[kPrompts], key), "delete prompt"));
  if (known) --prompt_count_;
  return absl::OkStatus();
}

absl::Status RocksDbStore::ForEachPrompt(const Digest& identity,
                                         const std::function<void(PromptRecord)>& visit) {
  return Scan(kPrompts, std::string(AsText(identity)), [&](const std::string& key, ByteView value) {
    auto prompt = DecodePrompt(value);
    if (prompt.ok() && PromptKey(prompt->identity, prompt->id) == key) {
      visit(*std::move(prompt));
    } else {
      ++corrupt_count_;
    }
  });
}

StoreStats RocksDbStore::Stats() const {
  StoreStats stats;
  {
    absl::MutexLock lock(&mutex_);
    stats.segment_count = static_cast<int64_t>(known_.size());
    stats.payload_bytes = payload_bytes_;
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
  std::error_code error;
  for (std::filesystem::directory_iterator it(options_.path, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code size_error;
    const auto size = it->file_size(size_error);
    if (!size_error) stats.disk_bytes += static_cast<int64_t>(size);
  }
  return stats;
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvStore>> OpenRocksDbStore(const RocksDbOptions& options) {
  auto store = std::make_unique<RocksDbStore>(options);
  RETURN_IF_ERROR(store->Open());
  return store;
}

}  // namespace reprise
