// The RocksDbStore behind core/store/rocksdb_store.h.
#pragma once

#include <rocksdb/db.h>

#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "core/store/disk_use.h"
#include "core/store/rocksdb_setup.h"
#include "core/store/rocksdb_store.h"
#include "core/store/segment_ledger.h"

namespace reprise {

class RocksDbStore final : public KvStore {
 public:
  explicit RocksDbStore(RocksDbOptions options) : options_(std::move(options)) {}
  ~RocksDbStore() override;

  absl::Status Open();
  absl::Status WriteSegments(absl::Span<const SegmentWrite> writes) override;
  absl::Status ReadSegment(const SegmentRecord& record, MutableByteView out) override;
  absl::Status ReadSegmentInto(const SegmentRecord& record, const PayloadSink& sink) override;
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
  int64_t PayloadLimit() const override { return payload_limit_; }

 private:
  using Keys = std::vector<SegmentKey>;
  using Visit = std::function<void(SegmentRecord)>;

  // rocksdb_store.cc: segments. changes_ is held through whole writes.
  absl::Status WriteTogether(absl::Span<const SegmentWrite> writes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  absl::Status RaiseDoubts(absl::Span<const SegmentWrite> writes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  absl::Status FlushSegments() ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  absl::Status DeleteLocked(absl::Span<const SegmentKey> keys)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  using Turns = absl::flat_hash_map<SegmentKey, EvictionTurn, SegmentKeyHash>;
  absl::StatusOr<Evicted> EvictLocked(absl::Span<const Digest> kept, int64_t max_bytes,
                                      const Turns& turns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  uint64_t NextCohort() const;
  absl::Status ReadValue(const SegmentRecord& record,
                         absl::FunctionRef<absl::Status(ByteView value)> decode);
  void Quarantine(const SegmentKey& key);
  absl::Status DropQuarantined() ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);

  // rocksdb_space.cc: the disk limit.
  absl::Status KeepLimitOnOpen() ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  absl::StatusOr<Turns> FindTurns();
  absl::Status MakeRoom(int64_t incoming) ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  absl::Status CompactSegments() ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  absl::StatusOr<bool> RewriteEmptiest(int64_t max_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  absl::Status Rewrite(const Keys& keys) ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  DiskUse MeasureDisk();
  int64_t HeldBack(const DiskUse& use) const;

  // rocksdb_scan.cc: records and prompts.
  absl::Status SettleOnce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  absl::Status Settle(const Digest* listed, const Visit& visit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  absl::Status List(const Digest& identity, const Visit& visit);
  absl::Status FillLedger(const Digest* listed, const Visit& visit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  absl::Status RemoveOrphans() ABSL_EXCLUSIVE_LOCKS_REQUIRED(changes_);
  void RemoveRecord(absl::string_view key, rocksdb::WriteBatch& batch);
  absl::Status DeletePromptsOf(const Digest& identity);
  absl::Status Scan(Family family, const std::string& prefix,
                    const std::function<void(absl::string_view key, ByteView value)>& visit);
  absl::StatusOr<SegmentRecord> ReadRecord(const SegmentKey& key);

  RocksDbOptions options_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;  // by Family; owned by db_

  absl::Mutex changes_;  // held by whoever changes segments or their records
  std::set<SegmentKey> removed_ ABSL_GUARDED_BY(changes_);  // not flushed yet
  std::set<SegmentKey> settled_ ABSL_GUARDED_BY(changes_);  // whose doubt can go
  bool compacted_ ABSL_GUARDED_BY(changes_) = false;        // since something was removed
  bool filled_ ABSL_GUARDED_BY(changes_) = false;           // ledger_

  mutable absl::Mutex mutex_;  // held for moments; taken after changes_
  SegmentLedger ledger_ ABSL_GUARDED_BY(mutex_);
  std::set<SegmentKey> quarantined_ ABSL_GUARDED_BY(mutex_);  // not removed yet

  std::atomic<int64_t> payload_limit_{std::numeric_limits<int64_t>::max()};
  std::atomic<int64_t> prompt_count_{0};
  std::atomic<int64_t> read_bytes_{0};
  std::atomic<int64_t> written_bytes_{0};
  std::atomic<int64_t> corrupt_count_{0};
};

// Scans of one identity give parents before children.
std::string RecordKey(const Digest& identity, int32_t start_position, const SegmentKey& key);

}  // namespace reprise
