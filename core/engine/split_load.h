// SplitLoad: what the engine and the reader share of a prefix that is computed from
// the front while it is loaded from the back, until the two meet.
//
// Both claim segments; each is claimed once, so each token is either computed or
// loaded. A segment whose load fails goes back to the front: it is computed, and
// what was loaded behind it still counts.
//
// Threading  the methods of SplitFrontier are safe from any thread; the engine
//            thread owns the rest.
// Source     Cake, arXiv 2410.03065.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/store/kv_store.h"

namespace reprise {

class SplitFrontier {
 public:
  explicit SplitFrontier(size_t segments) : back_(segments) {}

  // The last one that nobody has claimed, to load; none: they met, or a load failed.
  std::optional<size_t> ClaimBack() {
    const std::lock_guard lock(mutex_);
    if (failed_ || front_ == back_) return std::nullopt;
    return --back_;
  }

  // Claims some of the first that nobody has claimed, to compute: half of them, so that
  // the two meet closely, but at most `most` and at least one. How many.
  size_t ClaimFront(size_t most) {
    const std::lock_guard lock(mutex_);
    const size_t left = back_ - front_;
    size_t count = std::min(std::max<size_t>(left / 2, 1), std::max<size_t>(most, 1));
    count = std::min(count, left);
    front_ += count;
    return count;
  }

  // The load of `segment` failed: it and all before it are left to the front.
  void Fail(size_t segment) {
    const std::lock_guard lock(mutex_);
    failed_ = true;
    back_ = std::max(back_, segment + 1);
  }

  bool failed() {
    const std::lock_guard lock(mutex_);
    return failed_;
  }

 private:
  std::mutex mutex_;  // guards what follows; ThreadSanitizer sees into it
  size_t front_ = 0;  // segments [0, front_) are claimed to compute
  size_t back_;       // segments [back_, all) are claimed to load
  bool failed_ = false;
};

class LoadAccount;

struct SplitLoad {
  explicit SplitLoad(std::vector<SegmentRecord> parts)
      : segments(std::move(parts)), frontier(segments.size()), loaded(segments.size()) {}

  const std::vector<SegmentRecord> segments;
  SplitFrontier frontier;
  std::shared_ptr<LoadAccount> account;

  size_t front = 0;       // segments claimed to compute
  size_t loaded;          // segments [loaded, all) are in the sequence's blocks
  int32_t front_end = 0;  // position up to which is computed before the next claim
  int32_t end = 0;        // position up to which is reused
  int32_t begun = 0;      // position at which computing began
  bool given_up = false;  // the reader stalled: what it still brings is dropped
  bool parked = false;    // nothing is left to compute: it waits for the last load
};

}  // namespace reprise
