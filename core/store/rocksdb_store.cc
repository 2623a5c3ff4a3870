#include "core/store/rocksdb_store.h"

#include <rocksdb/db.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/table.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <system_error>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/base/status_macros.h"
#include "core/store/segment_codec.h"

namespace reprise {
namespace {

using rocksdb::ColumnFamilyHandle;

enum Family { kDefault, kSegments, kRecords, kPrompts, kFamilyCount };
constexpr const char* kFamilyNames[] = {"default", "segments", "records", "prompts"};

absl::Status FromRocksDb(const rocksdb::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(message);
  if (status.IsCorruption()) return absl::DataLossError(message);
  return absl::UnavailableError(message);
}

rocksdb::Slice ToSlice(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string BigEndian(uint64_t value) {
  std::string text(8, '\0');
  for (int i = 7; i >= 0; --i, value >>= 8) text[i] = static_cast<char>(value & 0xFF);
  return text;
}

// Scans of one identity give parents before children.
std::string RecordKey(const SegmentRecord& record) {
  return absl::StrCat(AsText(record.identity), BigEndian(record.start_position),
                      AsText(record.key));
}

std::string PromptKey(const Digest& identity, uint64_t id) {
  return absl::StrCat(AsText(identity), BigEndian(id));
}

std::vector<rocksdb::ColumnFamilyDescriptor> Families(const RocksDbOptions& options) {
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const char* name : kFamilyNames) {
    rocksdb::ColumnFamilyOptions family;
    family.compression = rocksdb::kNoCompression;
    if (std::string(name) == kFamilyNames[kSegments]) {
      family.enable_blob_files = true;
      family.min_blob_size = 0;
      family.blob_file_size = static_cast<uint64_t>(options.blob_file_bytes);
      family.enable_blob_garbage_collection = true;
      family.blob_garbage_collection_age_cutoff = 0.5;
      family.write_buffer_size = static_cast<size_t>(options.blob_file_bytes);
    }
    families.emplace_back(name, family);
  }
  return families;
}

rocksdb::DBOptions DatabaseOptions(const RocksDbOptions& options) {
  rocksdb::DBOptions database;
  database.create_if_missing = true;
  database.create_missing_column_families = true;
  database.keep_log_file_num = 2;
  database.max_log_file_size = size_t{1} << 20;
  database.info_log_level = rocksdb::WARN_LEVEL;
  database.max_open_files = 256;
  if (options.write_bytes_per_second > 0) {
    database.rate_limiter.reset(rocksdb::NewGenericRateLimiter(options.write_bytes_per_second));
  }
  return database;
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
  absl::Status UpdateUsage(absl::Span<const SegmentRecord> records) override;
  absl::Status ForEachSegment(const Digest& identity,
                              const std::function<void(SegmentRecord)>& visit) override;
  absl::Status WritePrompt(const PromptRecord& prompt) override;
  absl::Status DeletePrompt(const Digest& identity, uint64_t id) override;
  absl::Status ForEachPrompt(const Digest& identity,
                             const std::function<void(PromptRecord)>& visit) override;
  absl::Status Flush() override;
  StoreStats Stats() const override;

 private:
  // What must be known of a segment to delete it by key.
  struct Known {
    std::string record_key;
    int64_t payload_bytes = 0;
  };

  absl::Status ScanRecords();
  void Remember(const SegmentRecord& record);
  absl::Status Scan(Family family, const std::string& prefix,
                    const std::function<void(const std::string& key, ByteView value)>& visit);

  RocksDbOptions options_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<ColumnFamilyHandle*> handles_;  // by Family; owned by db_
  mutable absl::Mutex mutex_;
  std::map<SegmentKey, Known> known_ ABSL_GUARDED_BY(mutex_);
  int64_t payload_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<int64_t> prompt_count_{0};
  std::atomic<int64_t> read_bytes_{0};
  std::atomic<int64_t> written_bytes_{0};
  std::atomic<int64_t> corrupt_count_{0};
};

// RocksDB has no code of its own for a lock that is taken, and a path may say
// "lock" too: these are how its messages begin.
bool IsHeldByAnother(const rocksdb::Status& status) {
  if (!status.IsIOError()) return false;
  const std::string text = status.ToString();
  return absl::StartsWith(text, "IO error: While lock file") ||
         absl::StartsWith(text, "IO error: lock hold by current process");
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
                                                   Families(options_), &handles_, &db);
  if (IsHeldByAnother(status)) {
    return absl::FailedPreconditionError(
        absl::StrCat(options_.path, " is in use by another process: ", status.ToString()));
  }
  if (!status.ok()) {
    return absl::UnavailableError(
        absl::StrCat("cannot open ", options_.path, ": ", status.ToString()));
  }
  db_.reset(db);
  return ScanRecords();
}

absl::Status RocksDbStore::ScanRecords() {
  RETURN_IF_ERROR(Scan(kRecords, "", [&](const std::string&, ByteView value) {
    if (const auto record = DecodeRecord(value); record.ok()) Remember(*record);
  }));
  return Scan(kPrompts, "", [&](const std::string&, ByteView) { ++prompt_count_; });
}

void RocksDbStore::Remember(const SegmentRecord& record) {
  absl::MutexLock lock(&mutex_);
  Known& known = known_[record.key];
  payload_bytes_ += record.payload_bytes - known.payload_bytes;
  known = {RecordKey(record), record.payload_bytes};
}

absl::Status RocksDbStore::WriteSegments(absl::Span<const SegmentWrite> writes) {
  rocksdb::WriteOptions without_wal;
  without_wal.disableWAL = true;
  rocksdb::WriteBatch segments, records;
  for (const SegmentWrite& write : writes) {
    SegmentRecord record = write.record;
    record.payload_bytes = static_cast<int64_t>(write.payload.size());
    segments.Put(handles_[kSegments], ToSlice(record.key), EncodeSegment(record, write.payload));
    records.Put(handles_[kRecords], RecordKey(record), EncodeRecord(record));
  }
  RETURN_IF_ERROR(FromRocksDb(db_->Write(without_wal, &segments), "write segments"));
  RETURN_IF_ERROR(
      FromRocksDb(db_->Flush(rocksdb::FlushOptions(), handles_[kSegments]), "flush segments"));
  // Segments are durable now, so their records may become so.
  rocksdb::WriteOptions synced;
  synced.sync = true;
  RETURN_IF_ERROR(FromRocksDb(db_->Write(synced, &records), "write records"));
  for (const SegmentWrite& write : writes) {
    SegmentRecord record = write.record;
    record.payload_bytes = static_cast<int64_t>(write.payload.size());
    Remember(record);
    written_bytes_ += record.payload_bytes;
  }
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
  {
    absl::MutexLock lock(&mutex_);
    for (const SegmentKey& key : keys) {
      const auto found = known_.find(key);
      if (found == known_.end()) continue;
      records.Delete(handles_[kRecords], found->second.record_key);
      segments.Delete(handles_[kSegments], ToSlice(key));
      payload_bytes_ -= found->second.payload_bytes;
      known_.erase(found);
    }
  }
  rocksdb::WriteOptions synced;
  synced.sync = true;
  RETURN_IF_ERROR(FromRocksDb(db_->Write(synced, &records), "delete records"));
  rocksdb::WriteOptions without_wal;
  without_wal.disableWAL = true;
  return FromRocksDb(db_->Write(without_wal, &segments), "delete segments");
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
  return Scan(kRecords, std::string(AsText(identity)), [&](const std::string&, ByteView value) {
    auto record = DecodeRecord(value);
    if (record.ok() && record->identity == identity) {
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
  return Scan(kPrompts, std::string(AsText(identity)), [&](const std::string&, ByteView value) {
    auto prompt = DecodePrompt(value);
    if (prompt.ok() && prompt->identity == identity) {
      visit(*std::move(prompt));
    } else {
      ++corrupt_count_;
    }
  });
}

absl::Status RocksDbStore::Flush() {
  RETURN_IF_ERROR(FromRocksDb(db_->FlushWAL(/*sync=*/true), "sync log"));
  return FromRocksDb(db_->Flush(rocksdb::FlushOptions(), handles_[kSegments]), "flush segments");
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
