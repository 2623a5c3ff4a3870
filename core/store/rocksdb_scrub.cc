#include "core/store/rocksdb_scrub.h"

#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/store/rocksdb_setup.h"
#include "core/store/segment_codec.h"

namespace reprise {
namespace {

// More than any segment has: a record that asks for more is not believed.
constexpr int64_t kMaxPayloadBytes = int64_t{4} << 30;

std::string Hex(rocksdb::Slice bytes) {
  return absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
}

ByteView ViewOf(const rocksdb::Slice& slice) {
  return AsBytes(absl::string_view(slice.data(), slice.size()));
}

class Scrub {
 public:
  explicit Scrub(const ScrubOptions& options) : options_(options) {}
  ~Scrub();

  absl::Status Open();
  absl::Status Read();
  absl::Status Repair();
  ScrubReport TakeReport() { return std::move(report_); }

 private:
  struct Named {
    SegmentRecord record;
    std::string record_key;
    bool seen = false;  // its segment was
  };

  absl::Status ReadRecords();
  absl::Status ReadDoubts();
  absl::Status ReadPrompts();
  absl::Status ReadSegments();
  void CheckSegment(const std::string& key, rocksdb::Slice value);
  absl::StatusOr<bool> SkipUnreadable(std::string& from);
  void CountMissing();
  void CountUnreachable();
  void Condemn(const std::string& key, const std::string& problem);
  void Name(const std::string& finding);
  std::unique_ptr<rocksdb::Iterator> Iterate(Family family) const;

  ScrubOptions options_;
  ScrubReport report_;
  rocksdb::FileLock* lock_ = nullptr;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;  // by Family; owned by db_
  std::map<std::string, Named> records_;               // by segment key
  std::set<std::string> doubts_;
  std::set<std::string> bad_segments_;  // keys to remove
  std::set<std::pair<Family, std::string>> bad_entries_;
};

Scrub::~Scrub() {
  if (db_ != nullptr) {
    for (rocksdb::ColumnFamilyHandle* handle : handles_) db_->DestroyColumnFamilyHandle(handle);
    db_->Close();
    db_.reset();
  }
  if (lock_ != nullptr) rocksdb::Env::Default()->UnlockFile(lock_).PermitUncheckedError();
}

absl::Status Scrub::Open() {
  rocksdb::Env* env = rocksdb::Env::Default();
  if (!env->FileExists(options_.path + "/CURRENT").ok()) {
    return absl::NotFoundError(absl::StrCat("there is no store in ", options_.path));
  }
  RocksDbOptions store;
  store.path = options_.path;
  rocksdb::DBOptions database = DatabaseOptions(store);
  database.create_if_missing = database.create_missing_column_families = false;
  rocksdb::DB* db = nullptr;
  rocksdb::Status status;
  if (options_.repair) {
    status = rocksdb::DB::Open(database, options_.path, FamiliesOf(store), &handles_, &db);
  } else {
    // A folder that cannot be written has no writer to keep out.
    status = env->LockFile(options_.path + "/LOCK", &lock_);
    if (!IsHeldByAnother(status)) {
      status =
          rocksdb::DB::OpenForReadOnly(database, options_.path, FamiliesOf(store), &handles_, &db);
    }
  }
  db_.reset(db);
  return FromOpen(status, options_.path);
}

std::unique_ptr<rocksdb::Iterator> Scrub::Iterate(Family family) const {
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  read.verify_checksums = family != kSegments;  // the codec's checksum covers segments
  return std::unique_ptr<rocksdb::Iterator>(db_->NewIterator(read, handles_[family]));
}

void Scrub::Name(const std::string& finding) {
  if (report_.named.size() < options_.max_named) report_.named.push_back(finding);
}

absl::Status Scrub::ReadRecords() {
  const auto it = Iterate(kRecords);
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    const auto record = DecodeRecord(ViewOf(it->value()));
    absl::Status status = record.status();
    if (status.ok() &&
        ComputeSegmentKey(record->kind, record->parent, record->ids) != record->key) {
      status = absl::DataLossError("its key is not that of its tokens");
    }
    if (status.ok() && !(it->key().starts_with(ToSlice(record->identity)) &&
                         it->key().ends_with(ToSlice(record->key)))) {
      status = absl::DataLossError("it lies at the key of another");
    }
    if (status.ok()) {
      records_[std::string(AsText(record->key))] = {*record, it->key().ToString()};
      continue;
    }
    ++report_.damaged_records;
    bad_entries_.emplace(kRecords, it->key().ToString());
    Name(absl::StrCat("record ", Hex(it->key()), ": ", status.message()));
  }
  return FromRocksDb(it->status(), "read records");
}

absl::Status Scrub::ReadDoubts() {
  const auto it = Iterate(kDoubts);
  for (it->SeekToFirst(); it->Valid(); it->Next()) doubts_.insert(it->key().ToString());
  return FromRocksDb(it->status(), "read doubts");
}

absl::Status Scrub::ReadPrompts() {
  const auto it = Iterate(kPrompts);
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    const auto prompt = DecodePrompt(ViewOf(it->value()));
    if (prompt.ok() && it->key().starts_with(ToSlice(prompt->identity))) {
      ++report_.prompts;
      continue;
    }
    ++report_.damaged_prompts;
    bad_entries_.emplace(kPrompts, it->key().ToString());
    Name(absl::StrCat("prompt ", Hex(it->key()), ": ",
                      prompt.ok() ? "of another identity" : prompt.status().message()));
  }
  return FromRocksDb(it->status(), "read prompts");
}

void Scrub::Condemn(const std::string& key, const std::string& problem) {
  bad_segments_.insert(key);
  const auto found = records_.find(key);
  std::string place;
  if (found != records_.end()) {
    const SegmentRecord& record = found->second.record;
    place = absl::StrCat(" (identity ", ToHex(record.identity).substr(0, 16), ", tokens ",
                         record.start_position, " to ",
                         record.start_position + static_cast<int64_t>(record.ids.size()), ")");
  }
  Name(absl::StrCat("segment ", Hex(key), place, ": ", problem));
}

void Scrub::CheckSegment(const std::string& key, rocksdb::Slice value) {
  const auto found = records_.find(key);
  if (found == records_.end()) {
    if (doubts_.contains(key)) {
      ++report_.in_doubt;
      return;
    }
    ++report_.orphans;
    return Condemn(key, "no record names it");
  }
  found->second.seen = true;
  const SegmentRecord& record = found->second.record;
  absl::Status status = absl::DataLossError(absl::StrCat("a payload of ", record.payload_bytes));
  if (record.payload_bytes <= kMaxPayloadBytes) {
    std::vector<uint8_t> payload(static_cast<size_t>(record.payload_bytes));
    status = DecodeSegment(ViewOf(value), record, absl::MakeSpan(payload));
  }
  if (status.ok()) {
    ++report_.segments;
    report_.payload_bytes += record.payload_bytes;
    return;
  }
  ++report_.damaged_segments;
  Condemn(key, std::string(status.message()));
}

// An iterator ends at a blob that cannot be read, without saying at which key: it is
// the next one that a record names, since what lies in between would have come first.
// False: no record names any.
absl::StatusOr<bool> Scrub::SkipUnreadable(std::string& from) {
  const auto next = records_.lower_bound(from);
  if (next == records_.end()) return false;
  next->second.seen = true;
  rocksdb::PinnableSlice value;
  rocksdb::ReadOptions read;
  read.verify_checksums = false;
  const auto got = db_->Get(read, handles_[kSegments], next->first, &value);
  if (got.ok()) {
    CheckSegment(next->first, value);
  } else if (got.IsIOError() && options_.repair) {
    // What a disk cannot read now may be sound: nothing is removed for it.
    return FromRocksDb(got, "read segment");
  } else {
    ++report_.damaged_segments;
    Condemn(next->first, got.ToString());
  }
  from = next->first + '\0';
  return true;
}

absl::Status Scrub::ReadSegments() {
  std::string from;  // the first key that was not looked at
  while (true) {
    const auto it = Iterate(kSegments);
    for (it->Seek(from); it->Valid(); it->Next()) {
      const std::string key = it->key().ToString();
      CheckSegment(key, it->value());
      from = key + '\0';
    }
    if (it->status().ok()) break;
    ASSIGN_OR_RETURN(const bool skipped, SkipUnreadable(from));
    if (!skipped) return FromRocksDb(it->status(), "read segments");
  }
  return absl::OkStatus();
}

void Scrub::CountMissing() {
  for (const auto& [key, named] : records_) {
    if (named.seen) continue;
    ++report_.missing;
    Condemn(key, "its record has no segment");
  }
}

void Scrub::CountUnreachable() {
  for (const auto& [key, named] : records_) {
    if (named.record.start_position == 0 || bad_segments_.contains(key)) continue;
    const auto parent = records_.find(std::string(AsText(named.record.parent)));
    const bool reachable = parent != records_.end() && !bad_segments_.contains(parent->first);
    if (!reachable) ++report_.unreachable;
  }
}

absl::Status Scrub::Read() {
  RETURN_IF_ERROR(ReadRecords());
  RETURN_IF_ERROR(ReadDoubts());
  RETURN_IF_ERROR(ReadPrompts());
  RETURN_IF_ERROR(ReadSegments());
  CountMissing();
  CountUnreachable();
  return absl::OkStatus();
}

// In the order of RocksDbStore::DeleteSegments, so that a crash leaves doubts and no lies.
absl::Status Scrub::Repair() {
  rocksdb::WriteBatch entries, segments, doubts;
  for (const auto& [family, key] : bad_entries_) entries.Delete(handles_[family], key);
  for (const std::string& key : bad_segments_) {
    const auto found = records_.find(key);
    if (found != records_.end()) entries.Delete(handles_[kRecords], found->second.record_key);
    entries.Put(handles_[kDoubts], key, "");
    segments.Delete(handles_[kSegments], key);
    doubts.Delete(handles_[kDoubts], key);
  }
  RETURN_IF_ERROR(FromRocksDb(db_->Write(Synced(), &entries), "remove records"));
  RETURN_IF_ERROR(FromRocksDb(db_->Write(WithoutWal(), &segments), "remove segments"));
  RETURN_IF_ERROR(
      FromRocksDb(db_->Flush(rocksdb::FlushOptions(), handles_[kSegments]), "flush segments"));
  RETURN_IF_ERROR(FromRocksDb(db_->Write(Synced(), &doubts), "end doubts"));
  report_.repaired = true;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ScrubReport> ScrubRocksDbStore(const ScrubOptions& options) {
  Scrub scrub(options);
  RETURN_IF_ERROR(scrub.Open());
  RETURN_IF_ERROR(scrub.Read());
  if (options.repair) RETURN_IF_ERROR(scrub.Repair());
  return scrub.TakeReport();
}

}  // namespace reprise
