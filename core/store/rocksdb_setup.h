// What RocksDbStore asks of RocksDB: families, options, and its answers as absl::Status.
#pragma once

#include <rocksdb/db.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/base/bytes.h"
#include "core/store/rocksdb_store.h"

namespace reprise {

// Indexes FamiliesOf(). The default family names the segments in doubt: those that may
// lie in the store without a record, being written or removed. Without that list,
// finding them would mean reading every blob, since a scan reads its values.
enum Family { kDoubts, kSegments, kRecords, kPrompts, kFamilyCount };
inline constexpr const char* kFamilyNames[] = {"default", "segments", "records", "prompts"};

// Of the families beside the segments, and of their log and the manifest.
int64_t SmallBufferBytes(const RocksDbOptions& options);

std::vector<rocksdb::ColumnFamilyDescriptor> FamiliesOf(const RocksDbOptions& options);
rocksdb::DBOptions DatabaseOptions(const RocksDbOptions& options);
// Flushes and compactions get the processor time that others leave. Their reads and writes are
// bounded by the rate alone: on a busy disk the idle class may never have its turn.
void LowerBackgroundPriority(rocksdb::Env& env);

rocksdb::WriteOptions Synced();
rocksdb::WriteOptions WithoutWal();

absl::Status FromRocksDb(const rocksdb::Status& status, absl::string_view what);

// Whether the folder could not be opened because another process holds it.
bool IsHeldByAnother(const rocksdb::Status& status);

// What opening the folder `path` came to. kFailedPrecondition: another process holds it;
// it is named where the system knows it. kUnavailable: anything else.
absl::Status FromOpen(const rocksdb::Status& status, const std::string& path);

inline rocksdb::Slice ToSlice(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace reprise
