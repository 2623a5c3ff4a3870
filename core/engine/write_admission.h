// WriteAdmission decides when a segment that the store does not have is written.
//
// Most prompts never come again, so a write of each costs more than it gains: what is
// used a second time is written at once, what is used for the first time waits until
// nothing else is to be done and is written if its KV is still there. What would not
// be loaded, because computing it is as fast, is not written.
//
// Source     admission on second use: Einziger et al. 2015, arXiv 1512.00727 (the doorkeeper).
// Threading  not thread-safe; the engine thread owns it.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "core/base/ids.h"
#include "core/store/kv_store.h"

namespace reprise {

class WriteAdmission {
 public:
  enum class Decision { kNow, kWhenIdle, kNever };

  // Of a segment that takes `compute` to compute and `load` to load, by prediction.
  Decision Decide(const SegmentKey& key, absl::Duration compute, absl::Duration load);

  // Ids whose segments are to be written when the engine is idle. False: too many wait, and
  // the oldest has gone for it.
  bool Defer(std::vector<TokenId> ids);

  // The oldest of them; nullopt when there are none.
  std::optional<std::vector<TokenId>> TakeDeferred();
  size_t num_deferred() const { return deferred_.size(); }

 private:
  absl::flat_hash_set<SegmentKey, SegmentKeyHash> seen_, seen_before_;  // two generations
  std::deque<std::vector<TokenId>> deferred_;
  size_t deferred_tokens_ = 0;
};

}  // namespace reprise
