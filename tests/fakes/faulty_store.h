// FaultyStore: a KvStore whose chosen operations fail, with kUnavailable unless another
// code is set, instead of reaching the store behind it, which may outlive it as a disk outlives a
// process, or stand at a gate first, as on a slow disk.
//
// Threading  as KvStore; faults may be set from any thread.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>

#include "core/store/kv_store.h"
#include "tests/fakes/gate.h"

namespace reprise {

enum class StoreOperation {
  kWriteSegments,
  kReadSegment,
  kDeleteSegments,
  kUpdateUsage,
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

  // How they fail.
  void set_code(absl::StatusCode code) { code_ = code; }

  // Passed by every call of `operation`.
  Gate& gate(StoreOperation operation) { return gates_[static_cast<size_t>(operation)]; }
  void OpenGates();

  // Called before each read, which takes as long; to be set before the store is used.
  std::function<void()> on_read;

  // Whether this call is to fail; returns once the gate lets it.
  absl::Status Take(StoreOperation operation);

 private:
  std::atomic<int>& At(StoreOperation operation) { return left_[static_cast<size_t>(operation)]; }

  static constexpr auto kCount = static_cast<size_t>(StoreOperation::kCount);
  std::array<std::atomic<int>, kCount> left_{};
  std::atomic<absl::StatusCode> code_{absl::StatusCode::kUnavailable};
  std::array<Gate, kCount> gates_;
};

std::unique_ptr<KvStore> CreateFaultyStore(std::shared_ptr<KvStore> store,
                                           std::shared_ptr<StoreFaults> faults);

}  // namespace reprise
