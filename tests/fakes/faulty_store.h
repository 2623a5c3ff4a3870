// FaultyStore: a KvStore whose chosen operations fail with kUnavailable instead of
// reaching the store behind it, which may outlive it as a disk outlives a process.
//
// Threading  as KvStore; faults may be set from any thread.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "core/store/kv_store.h"

namespace reprise {

enum class StoreOperation {
  kWriteSegments,
  kReadSegment,
  kDeleteSegments,
  kListSegments,
  kWritePrompt,
  kListPrompts,
  kCount,
};

// Which operations fail; shared by a test and its stores.
class StoreFaults {
 public:
  static constexpr int kAlways = 1 << 30;

  // The next `times` calls of `operation` fail.
  void Fail(StoreOperation operation, int times = kAlways) { At(operation) = times; }

  // Whether this call is to fail.
  absl::Status Take(StoreOperation operation);

 private:
  std::atomic<int>& At(StoreOperation operation) { return left_[static_cast<size_t>(operation)]; }

  std::array<std::atomic<int>, static_cast<size_t>(StoreOperation::kCount)> left_{};
};

std::unique_ptr<KvStore> CreateFaultyStore(std::shared_ptr<KvStore> store,
                                           std::shared_ptr<StoreFaults> faults);

}  // namespace reprise
