// RocksDbStore: the KvStore on disk. Segments are blobs in their own column
// family (WAL off, flushed before their records), records and prompts in
// others (WAL on, synced).
//
// A folder belongs to one process at a time.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/store/kv_store.h"

namespace reprise {

struct RocksDbOptions {
  std::string path;                                     // created when absent
  int64_t blob_file_bytes = int64_t{64} << 20;          // files are freed whole
  int64_t write_bytes_per_second = int64_t{256} << 20;  // flush and compaction cap; 0: none
};

// kFailedPrecondition: another process holds the folder (it is named).
// kUnavailable: the folder cannot be opened or is damaged.
absl::StatusOr<std::unique_ptr<KvStore>> OpenRocksDbStore(const RocksDbOptions& options);

}  // namespace reprise
