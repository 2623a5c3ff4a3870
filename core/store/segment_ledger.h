// SegmentLedger: what the store knows of its segments without reading them, and how
// much of each cohort is still alive.
//
// A cohort is what one flush wrote: it lies in one blob file, which goes when
// nothing of the cohort lives.
//
// Memory     about 110 bytes a segment.
// Threading  not thread-safe; the store guards it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "core/store/eviction_choice.h"
#include "core/store/kv_store.h"

namespace reprise {

class SegmentLedger {
 public:
  struct Entry {
    uint64_t cohort = 0;
    int64_t stored_bytes = 0;
    int64_t last_used_unix_ms = 0;
    int32_t start_position = 0;
    uint32_t identity = 0;  // numbers identities_
  };

  void Reserve(size_t segments) { entries_.reserve(segments); }

  // Adds a segment, or moves one that is known to the place that `record` says.
  void Put(const SegmentRecord& record);
  void Remove(const SegmentKey& key);
  void SetLastUsed(const SegmentKey& key, int64_t unix_ms);

  // Null when there is no such segment. Valid until the next change.
  const Entry* Find(const SegmentKey& key) const;
  const Digest& identity(const Entry& entry) const { return identities_[entry.identity]; }

  // All segments that are of none of `kept`.
  std::vector<EvictionCandidate> Candidates(absl::Span<const Digest> kept) const;

  // Keys of the cohorts whose files hold most that is dead, as many as have at most
  // `max_bytes` alive together. Empty: no file holds enough to be worth writing its rest anew.
  std::vector<SegmentKey> ToRewrite(int64_t max_bytes) const;

  // A number above those of all cohorts.
  uint64_t next_cohort() const { return last_cohort_ + 1; }
  int64_t stored_bytes() const { return stored_bytes_; }
  size_t size() const { return entries_.size(); }

 private:
  struct Cohort {
    int64_t live_bytes = 0;
    int64_t total_bytes = 0;
  };

  uint32_t NumberOf(const Digest& identity);
  void TakeFromCohort(const Entry& entry);

  absl::flat_hash_map<SegmentKey, Entry, SegmentKeyHash> entries_;
  absl::btree_map<uint64_t, Cohort> cohorts_;
  std::vector<Digest> identities_;  // few: one of each model and tenant
  uint64_t last_cohort_ = 0;
  int64_t stored_bytes_ = 0;
};

}  // namespace reprise
