#include "core/store/rocksdb_setup.h"

#include <rocksdb/rate_limiter.h>
#include <rocksdb/table.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace reprise {

absl::Status FromRocksDb(const rocksdb::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(message);
  if (status.IsCorruption()) return absl::DataLossError(message);
  return absl::UnavailableError(message);
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

// RocksDB has no code of its own for a lock that is taken, and a path may say
// "lock" too: these are how its messages begin.
bool IsHeldByAnother(const rocksdb::Status& status) {
  if (!status.IsIOError()) return false;
  const std::string text = status.ToString();
  return absl::StartsWith(text, "IO error: While lock file") ||
         absl::StartsWith(text, "IO error: lock hold by current process");
}

}  // namespace reprise
