#include "core/store/rocksdb_setup.h"

#include <fcntl.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/table.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr int64_t kLeastSmallBufferBytes = int64_t{64} << 10;  // RocksDB's own minimum
constexpr size_t kSmallValuesBlockBytes = size_t{32} << 10;    // they are mostly read in order
constexpr int64_t kMostSmallBufferBytes = int64_t{4} << 20;

}  // namespace

absl::Status FromRocksDb(const rocksdb::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(message);
  if (status.IsCorruption()) return absl::DataLossError(message);
  return absl::UnavailableError(message);
}

int64_t WriteBufferBytes(const RocksDbOptions& options) {
  if (options.max_disk_bytes == 0) return options.blob_file_bytes;
  return std::min(options.blob_file_bytes, std::max<int64_t>(options.max_disk_bytes / 16, 1));
}

int64_t SmallBufferBytes(const RocksDbOptions& options) {
  if (options.max_disk_bytes == 0) return kMostSmallBufferBytes;
  return std::clamp(options.max_disk_bytes / 512, kLeastSmallBufferBytes, kMostSmallBufferBytes);
}

std::vector<rocksdb::ColumnFamilyDescriptor> FamiliesOf(const RocksDbOptions& options) {
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const char* name : kFamilyNames) {
    rocksdb::ColumnFamilyOptions family;
    family.compression = rocksdb::kNoCompression;
    if (std::string(name) == kFamilyNames[kSegments]) {
      family.enable_blob_files = true;
      family.min_blob_size = 0;
      family.blob_file_size = static_cast<uint64_t>(options.blob_file_bytes);
      // The store writes anew what is left in a file: RocksDB would take the oldest
      // files, not the emptiest, and as many at once as a compaction meets.
      family.enable_blob_garbage_collection = false;
      // One flush, one file: the store flushes before it is full.
      family.write_buffer_size = static_cast<size_t>(2 * options.blob_file_bytes);
    } else {
      family.write_buffer_size = static_cast<size_t>(SmallBufferBytes(options));
      rocksdb::BlockBasedTableOptions table;
      table.block_size = kSmallValuesBlockBytes;
      family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
    }
    families.emplace_back(name, family);
  }
  return families;
}

namespace {

// RocksDB's own log is a file beside the data: when that cannot be written, a build with
// assertions, as Debian's is, ends the process at the next line.
class NoLog final : public rocksdb::Logger {
 public:
  using Logger::Logv;
  void Logv(const char*, va_list) override {}
};

}  // namespace

rocksdb::DBOptions DatabaseOptions(const RocksDbOptions& options) {
  rocksdb::DBOptions database;
  database.create_if_missing = true;
  database.create_missing_column_families = true;
  const auto small = static_cast<uint64_t>(SmallBufferBytes(options));
  database.max_total_wal_size = 2 * small;
  database.max_manifest_file_size = small;
  // Files take what they hold: what is reserved ahead counts as used.
  database.allow_fallocate = false;
  database.info_log = std::make_shared<NoLog>();
  database.max_open_files = 256;
  if (options.write_bytes_per_second > 0) {
    database.rate_limiter.reset(rocksdb::NewGenericRateLimiter(options.write_bytes_per_second));
  }
  return database;
}

void LowerBackgroundPriority(rocksdb::Env& env) {
  for (const auto pool : {rocksdb::Env::Priority::LOW, rocksdb::Env::Priority::HIGH}) {
    env.LowerThreadPoolCPUPriority(pool, rocksdb::CpuPriority::kLow).PermitUncheckedError();
  }
}

rocksdb::WriteOptions Synced() {
  rocksdb::WriteOptions options;
  options.sync = true;
  return options;
}

rocksdb::WriteOptions WithoutWal() {
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  return options;
}

namespace {

// RocksDB has no code of its own for a lock that is taken, and a path may say
// "lock" too: these are how its messages begin.
constexpr absl::string_view kHeldElsewhere = "IO error: While lock file";
constexpr absl::string_view kHeldHere = "IO error: lock hold by current process";

// Who holds the lock file, " (pid 7)"; empty where that cannot be known. Not for a lock of
// this process: closing the file would end it.
std::string HolderOf(const std::string& lock_path) {
  const int fd = open(lock_path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return "";
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  const bool known = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0;
  close(fd);
  return known ? absl::StrCat(" (pid ", lock.l_pid, ")") : "";
}

}  // namespace

bool IsHeldByAnother(const rocksdb::Status& status) {
  if (!status.IsIOError()) return false;
  const std::string text = status.ToString();
  return absl::StartsWith(text, kHeldElsewhere) || absl::StartsWith(text, kHeldHere);
}

absl::Status FromOpen(const rocksdb::Status& status, const std::string& path) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = status.ToString();
  if (IsHeldByAnother(status)) {
    const std::string holder =
        absl::StartsWith(text, kHeldElsewhere) ? HolderOf(path + "/LOCK") : "";
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is in use by another process", holder, ": ", text));
  }
  return absl::UnavailableError(absl::StrCat("cannot open ", path, ": ", text));
}

}  // namespace reprise
