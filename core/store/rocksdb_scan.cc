// Records and prompts: small values, read in order.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/store/read_ahead.h"
#include "core/store/rocksdb_store_impl.h"
#include "core/store/segment_codec.h"

namespace reprise {
namespace {

constexpr size_t kScanReadBytes = size_t{2} << 20;
constexpr uint64_t kMostReserved = 1u << 22;  // an estimate can be far off

std::string BigEndian(uint64_t value) {
  std::string text(8, '\0');
  for (int i = 7; i >= 0; --i, value >>= 8) text[i] = static_cast<char>(value & 0xFF);
  return text;
}

std::string RecordKey(const SegmentRecord& record) {
  return reprise::RecordKey(record.identity, record.start_position, record.key);
}

std::string PromptKey(const Digest& identity, uint64_t id) {
  return absl::StrCat(AsText(identity), BigEndian(id));
}

}  // namespace

std::string RecordKey(const Digest& identity, int32_t start_position, const SegmentKey& key) {
  return absl::StrCat(AsText(identity), BigEndian(static_cast<uint64_t>(start_position)),
                      AsText(key));
}

// Every record enters the ledger; those of `listed`, if any, are handed to `visit` too, on
// this thread, while another reads on.
absl::Status RocksDbStore::FillLedger(const Digest* listed, const Visit& visit) {
  if (uint64_t records = 0; db_->GetIntProperty(
          handles_[kRecords], rocksdb::DB::Properties::kEstimateNumKeys, &records)) {
    absl::MutexLock lock(&mutex_);
    ledger_.Reserve(std::min<uint64_t>(records, kMostReserved));
  }
  rocksdb::WriteBatch unreadable;
  absl::Status status;
  const auto read = [&](const std::function<void(SegmentRecord)>& emit) {
    status = Scan(kRecords, "", [&](absl::string_view key, ByteView value) {
      const bool wanted = listed != nullptr && absl::StartsWith(key, AsText(*listed));
      auto record = wanted ? DecodeRecord(value) : DecodeRecordFacts(value);
      if (!record.ok() || RecordKey(*record) != key) return RemoveRecord(key, unreadable);
      absl::MutexLock lock(&mutex_);
      ledger_.Put(*record);
      if (wanted) emit(*std::move(record));
    });
  };
  ReadAhead<SegmentRecord>(read, visit);
  RETURN_IF_ERROR(status);
  RETURN_IF_ERROR(
      FromRocksDb(db_->Write(rocksdb::WriteOptions(), &unreadable), "delete unreadable records"));
  filled_ = true;
  return absl::OkStatus();
}

// A record that cannot be read.
void RocksDbStore::RemoveRecord(absl::string_view key, rocksdb::WriteBatch& batch) {
  ++corrupt_count_;
  batch.Delete(handles_[kRecords], ToSlice(AsBytes(key)));
  // The key of the segment, which no record names from now on, ends the record's own.
  if (key.size() <= sizeof(SegmentKey)) return;
  const absl::string_view segment = key.substr(key.size() - sizeof(SegmentKey));
  batch.Put(handles_[kDoubts], ToSlice(AsBytes(segment)), "");
}

// Before the first change, and before anything is read: all that the ledger is for.
absl::Status RocksDbStore::Settle(const Digest* listed, const Visit& visit) {
  // Above the limit some segments go first: who lists them must not hear of those.
  const bool shrinks =
      options_.max_disk_bytes > 0 && MeasureDisk().total_bytes > options_.max_disk_bytes;
  RETURN_IF_ERROR(FillLedger(shrinks ? nullptr : listed, visit));
  RETURN_IF_ERROR(RemoveOrphans());
  RETURN_IF_ERROR(KeepLimitOnOpen());
  return shrinks && listed != nullptr ? List(*listed, visit) : absl::OkStatus();
}

// Removes the segments in doubt that no record names: what a crash left between a
// segment and its record, or between the end of a record and that of its segment.
absl::Status RocksDbStore::RemoveOrphans() {
  rocksdb::WriteBatch orphans, doubts;
  RETURN_IF_ERROR(Scan(kDoubts, "", [&](absl::string_view key, ByteView) {
    doubts.Delete(handles_[kDoubts], ToSlice(AsBytes(key)));
    SegmentKey segment{};
    if (key.size() != segment.size()) return;
    std::copy(key.begin(), key.end(), segment.begin());
    absl::MutexLock lock(&mutex_);
    if (ledger_.Find(segment) == nullptr)
      orphans.Delete(handles_[kSegments], ToSlice(AsBytes(key)));
  }));
  if (doubts.Count() == 0) return absl::OkStatus();
  RETURN_IF_ERROR(FromRocksDb(db_->Write(WithoutWal(), &orphans), "delete orphans"));
  RETURN_IF_ERROR(
      FromRocksDb(db_->Flush(rocksdb::FlushOptions(), handles_[kSegments]), "flush orphans"));
  return FromRocksDb(db_->Write(rocksdb::WriteOptions(), &doubts), "end doubts");
}

absl::Status RocksDbStore::DeletePromptsOf(const Digest& identity) {
  rocksdb::WriteBatch prompts;
  RETURN_IF_ERROR(
      Scan(kPrompts, std::string(AsText(identity)), [&](absl::string_view key, ByteView) {
        prompts.Delete(handles_[kPrompts], ToSlice(AsBytes(key)));
      }));
  RETURN_IF_ERROR(FromRocksDb(db_->Write(rocksdb::WriteOptions(), &prompts), "delete prompts"));
  prompt_count_ -= prompts.Count();
  return absl::OkStatus();
}

absl::StatusOr<SegmentRecord> RocksDbStore::ReadRecord(const SegmentKey& key) {
  std::string record_key;
  {
    absl::MutexLock lock(&mutex_);
    const SegmentLedger::Entry* known = ledger_.Find(key);
    if (known == nullptr) return absl::NotFoundError("read record: there is none");
    record_key = RecordKey(ledger_.identity(*known), known->start_position, key);
  }
  std::string value;
  RETURN_IF_ERROR(FromRocksDb(
      db_->Get(rocksdb::ReadOptions(), handles_[kRecords], record_key, &value), "read record"));
  return DecodeRecord(AsBytes(value));
}

absl::Status RocksDbStore::UpdateUsage(absl::Span<const SegmentRecord> records) {
  absl::MutexLock lock(&changes_);
  rocksdb::WriteBatch batch;
  bool marked = false;
  for (const SegmentRecord& used : records) {
    absl::StatusOr<SegmentRecord> record = ReadRecord(used.key);
    if (absl::IsUnavailable(record.status())) return record.status();
    if (!record.ok()) continue;  // gone, or found out when it is listed
    marked =
        marked || record->pinned != used.pinned || record->expires_unix_ms != used.expires_unix_ms;
    record->last_used_unix_ms = used.last_used_unix_ms;
    record->hit_count = used.hit_count;
    record->pinned = used.pinned;
    record->expires_unix_ms = used.expires_unix_ms;
    batch.Put(handles_[kRecords], RecordKey(record->identity, record->start_position, record->key),
              EncodeRecord(*record));
    absl::MutexLock ledger_lock(&mutex_);
    ledger_.SetLastUsed(used.key, used.last_used_unix_ms);
  }
  const rocksdb::WriteOptions options = marked ? Synced() : rocksdb::WriteOptions();
  return FromRocksDb(db_->Write(options, &batch), "update usage");
}

absl::Status RocksDbStore::Scan(
    Family family, const std::string& prefix,
    const std::function<void(absl::string_view key, ByteView value)>& visit) {
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  read.readahead_size = kScanReadBytes;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(read, handles_[family]));
  for (it->Seek(prefix); it->Valid() && it->key().starts_with(prefix); it->Next()) {
    visit({it->key().data(), it->key().size()},
          AsBytes(absl::string_view(it->value().data(), it->value().size())));
  }
  return FromRocksDb(it->status(), absl::StrCat("scan ", kFamilyNames[family]));
}

absl::Status RocksDbStore::ForEachSegment(const Digest& identity, const Visit& visit) {
  {
    absl::MutexLock lock(&changes_);
    if (!filled_) return Settle(&identity, visit);
  }
  return List(identity, visit);
}

absl::Status RocksDbStore::List(const Digest& identity, const Visit& visit) {
  absl::Status status;
  const auto read = [&](const std::function<void(SegmentRecord)>& emit) {
    status =
        Scan(kRecords, std::string(AsText(identity)), [&](absl::string_view key, ByteView value) {
          auto record = DecodeRecord(value);
          if (record.ok() && RecordKey(*record) == key) return emit(*std::move(record));
          ++corrupt_count_;
        });
  };
  ReadAhead<SegmentRecord>(read, visit);
  return status;
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
  return Scan(kPrompts, std::string(AsText(identity)), [&](absl::string_view key, ByteView value) {
    auto prompt = DecodePrompt(value);
    if (prompt.ok() && PromptKey(prompt->identity, prompt->id) == key) {
      visit(*std::move(prompt));
    } else {
      ++corrupt_count_;
    }
  });
}

}  // namespace reprise
