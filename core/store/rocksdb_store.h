// RocksDbStore: the KvStore on disk. Segments are blobs in their own column
// family (WAL off, flushed before their records), records and prompts in
// others (WAL on, synced).
//
// The disk limit is kept by measuring: before anything large is written, deleted
// segments are compacted away, which frees the blob files in which nothing lives, and
// what lives in the emptiest other files is written anew, together.
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
  // Of all files below `path`, as du counts them. At no time is there more than this and
  // one write buffer. 0: no limit.
  int64_t max_disk_bytes = 0;
  // The records are read once, by the first ForEachSegment, and not by the opening too.
  // Until then nothing can be read and Stats count nothing.
  bool settle_when_listed = false;
};

// Payload bytes that are written, and become durable, together: a blob file, or a
// sixteenth of the disk limit where that is less. A larger segment is written alone.
int64_t WriteBufferBytes(const RocksDbOptions& options);

// kFailedPrecondition: another process holds the folder (it is named).
// kUnavailable: the folder cannot be opened or is damaged.
absl::StatusOr<std::unique_ptr<KvStore>> OpenRocksDbStore(const RocksDbOptions& options);

}  // namespace reprise
