// DiskCache: what the store holds of this namespace, as an index in memory, and
// what is on its way there.
//
// Threading  not thread-safe; the engine thread owns it. The store itself is
//            called by the store worker.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "core/kv/entry_marks.h"
#include "core/kv/eviction_rank.h"
#include "core/kv/prefix_index.h"
#include "core/store/kv_store.h"

namespace reprise {

class DiskCache {
 public:
  explicit DiskCache(const Digest& identity, const EvictionOptions& eviction = {})
      : identity_(identity), eviction_(eviction) {}

  // For the ranks of what is used from now on.
  void SetCosts(const EvictionCosts& costs) { costs_ = costs; }

  struct Match {
    int32_t tokens = 0;
    std::vector<SegmentRecord> segments;  // covering [0, tokens), the last maybe in part
  };
  Match Find(absl::Span<const TokenId> ids) const;

  // As Find(ids).tokens.
  int32_t MatchedTokens(absl::Span<const TokenId> ids) const { return index_.Find(ids).tokens; }

  // Whether an entry here begins with `ids` and goes on.
  bool HoldsMoreThan(absl::Span<const TokenId> ids) const;

  // Adds a record that is durable; records of tails it supersedes are returned
  // by key, to be deleted. A record without its parent is refused (nullopt): it
  // cannot be reached.
  std::optional<std::vector<SegmentKey>> Add(const SegmentRecord& record);

  // Forgets a segment, and with it everything that can only be reached through it.
  // Returns the keys of all that was forgotten.
  std::vector<SegmentKey> Forget(const SegmentKey& key);

  // Marks the segments as used at `now_unix_ms`.
  void Touch(absl::Span<const SegmentRecord> segments, int64_t now_unix_ms);

  // The records that were touched since the last call, as they are now.
  std::vector<SegmentRecord> TakeUsed();

  // Ranks all segments by what their records say of their uses, as after adding them in
  // another order.
  void OrderByLastUse();

  // Records of the segments of `ids` that are neither stored nor being written.
  std::vector<SegmentRecord> Missing(absl::Span<const TokenId> ids) const;

  // As BlockCache's, with the marks in the records of the segments, which TakeUsed then
  // returns. Bytes of pinned segments are not limited here.
  int32_t SetPinned(absl::Span<const TokenId> ids, bool pinned);
  int32_t SetExpiry(absl::Span<const TokenId> ids, absl::Time at);

  // Forgets the segments of the matched beginning of `ids` as far as nothing else reaches
  // them, pinned or not; the keys, to be deleted.
  std::vector<SegmentKey> Purge(absl::Span<const TokenId> ids);

  // To list entries: leaves of the tree, what was asked of them, and a node's record.
  const PrefixIndex& index() const { return index_; }
  const EntryMarks& marks() const { return marks_; }
  const SegmentRecord& RecordOf(PrefixIndex::NodeId node) const { return EntryOf(node).record; }

  // Forgets what expired by `now`; the keys, to be deleted.
  std::vector<SegmentKey> DropExpired(absl::Time now);

  void BeginWrite(const SegmentKey& key) { writing_.insert(key); }
  void EndWrite(const SegmentKey& key) { writing_.erase(key); }

  // Keys to evict, leaves of the lowest rank (core/kv/eviction_rank.h) first, until at most
  // `max_bytes` of payload stay; they are forgotten here.
  std::vector<SegmentKey> EvictPast(int64_t max_bytes);

  int64_t payload_bytes() const { return payload_bytes_; }
  int64_t cached_tokens() const { return index_.total_tokens(); }
  size_t size() const { return by_key_.size(); }

 private:
  struct Entry {
    SegmentRecord record;
    PrefixIndex::NodeId node = 0;
  };

  void Erase(PrefixIndex::NodeId node);
  void Rank(const Entry& entry);
  void RestoreMarks(PrefixIndex::NodeId node);
  void KeepMarks(PrefixIndex::NodeId node);
  const Entry& EntryOf(PrefixIndex::NodeId node) const;

  Digest identity_;
  PrefixIndex index_{kSegmentTokens};  // values number the entries
  EntryMarks marks_{&index_};
  absl::flat_hash_map<uint64_t, Entry> entries_;
  absl::flat_hash_map<SegmentKey, uint64_t> by_key_;
  absl::flat_hash_set<SegmentKey> writing_;
  absl::flat_hash_set<SegmentKey> used_;  // since TakeUsed
  uint64_t next_number_ = 1;
  EvictionOptions eviction_;
  EvictionCosts costs_;
  double last_use_ = 0;  // of uses in one moment the later counts as later
  int64_t payload_bytes_ = 0;
};

}  // namespace reprise
