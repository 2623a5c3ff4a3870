// DiskCache: what the store holds of this namespace, as an index in memory, and
// what is on its way there.
//
// Memory     about 420 bytes a segment: the entry, and what PrefixIndex takes.
// Threading  not thread-safe; the engine thread owns it. The store itself is
//            called by the store worker.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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
  DiskCache(const DiskCache&) = delete;
  DiskCache& operator=(const DiskCache&) = delete;

  // For the ranks of what is used from now on.
  void SetCosts(const EvictionCosts& costs) { costs_ = costs; }

  struct Match {
    int32_t tokens = 0;
    std::vector<SegmentRecord> segments;  // covering [0, tokens), the last maybe in part
  };
  Match Find(absl::Span<const TokenId> ids) const;

  // The segments that hold only `ids`, where they are all of a stored entry or of `ids`; none
  // where stored entries go on from them.
  Match FindEntry(absl::Span<const TokenId> ids) const;

  // As Find(ids).tokens.
  int32_t MatchedTokens(absl::Span<const TokenId> ids) const { return index_.Find(ids).tokens; }

  // Whether an entry here begins with `ids` and goes on.
  bool HoldsMoreThan(absl::Span<const TokenId> ids) const;

  // Room for so many segments in all, so that they need not move while they are added.
  void Reserve(size_t segments);

  // Adds a record that is durable, as used when it says it was; records of tails it supersedes are
  // returned by key, to be deleted. A record without its parent is refused (nullopt): it cannot be
  // reached.
  std::optional<std::vector<SegmentKey>> Add(const SegmentRecord& record);

  // Forgets a segment, and with it everything that can only be reached through it.
  // Returns the keys of all that was forgotten.
  std::vector<SegmentKey> Forget(const SegmentKey& key);

  // Marks the segments as used at `now_unix_ms`.
  void Touch(absl::Span<const SegmentRecord> segments, int64_t now_unix_ms);

  // What UpdateUsage needs of the segments that were touched or marked since the last call, with
  // the identity.
  std::vector<SegmentRecord> TakeUsed();

  // Lets TakeUsed return a segment once more: it was not saved.
  void SaveAgain(const SegmentKey& key) { used_.insert(key); }

  // Records of the segments of `ids` that are neither stored nor being written.
  std::vector<SegmentRecord> Missing(absl::Span<const TokenId> ids) const;

  // As BlockCache's, with the marks in the records of the segments, which TakeUsed then
  // returns. Bytes of pinned segments are not limited here.
  int32_t SetPinned(absl::Span<const TokenId> ids, bool pinned);
  int32_t SetExpiry(absl::Span<const TokenId> ids, absl::Time at);

  // Forgets the segments that hold only `ids`, as far as nothing else reaches them and no pin
  // of what `ids` begin with keeps them; the keys, to be deleted.
  std::vector<SegmentKey> Purge(absl::Span<const TokenId> ids);

  // To list entries: leaves of the tree, and what was asked of them.
  const PrefixIndex& index() const { return index_; }
  const EntryMarks& marks() const { return marks_; }

  // Forgets what expired by `now`; the keys, to be deleted.
  std::vector<SegmentKey> DropExpired(absl::Time now);

  // Whether a segment of `ids` is on its way to the store.
  bool IsWriting(absl::Span<const TokenId> ids) const;

  void BeginWrite(const SegmentKey& key) { writing_.insert(key); }
  void EndWrite(const SegmentKey& key) { writing_.erase(key); }

  // Keys to evict, leaves of the lowest rank (core/kv/eviction_rank.h) first, until at most
  // `max_bytes` of payload stay; they are forgotten here. The nodes `kept`, and what leads to
  // them, stay.
  std::vector<SegmentKey> EvictPast(int64_t max_bytes,
                                    absl::Span<const PrefixIndex::NodeId> kept = {});

  int64_t payload_bytes() const { return payload_bytes_; }  // as it lies on disk
  int64_t cached_tokens() const { return index_.total_tokens(); }
  size_t size() const { return by_key_.size(); }

 private:
  // Of a record what the index does not know: ids and parent are those of its node.
  struct Entry {
    SegmentKey key{};
    PrefixIndex::NodeId node = 0;
    int64_t payload_bytes = 0;
    int64_t stored_bytes = 0;
    int32_t start_position = 0;
    PayloadCodec codec = PayloadCodec::kRaw;
    bool pinned = false;
    int64_t expires_unix_ms = 0;
    int64_t created_unix_ms = 0;
    int64_t last_used_unix_ms = 0;
    int64_t hit_count = 0;
  };
  using Number = uint32_t;  // of an entry: its place in entries_

  // The set of entries by key holds numbers alone.
  struct KeyOf {
    const std::vector<Entry>* entries;
    const SegmentKey& operator()(Number number) const { return (*entries)[number].key; }
    const SegmentKey& operator()(const SegmentKey& key) const { return key; }
  };
  struct HashKey : KeyOf {
    using is_transparent = void;
    template <typename T>
    size_t operator()(const T& entry) const {
      return SegmentKeyHash()(KeyOf::operator()(entry));
    }
  };
  struct EqualKeys : KeyOf {
    using is_transparent = void;
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return KeyOf::operator()(a) == KeyOf::operator()(b);
    }
  };

  std::vector<SegmentRecord> Chain(absl::Span<const TokenId> ids) const;
  void Erase(PrefixIndex::NodeId node);
  void Touch(Entry& entry, int64_t unix_ms);
  void RestoreMarks(PrefixIndex::NodeId node);
  void KeepMarks(PrefixIndex::NodeId node);
  const Entry& EntryOf(PrefixIndex::NodeId node) const;
  SegmentRecord RecordOf(const Entry& entry, const SegmentKey& parent,
                         int32_t start_position) const;
  Entry* Find(const SegmentKey& key);

  Digest identity_;
  PrefixIndex index_{kSegmentTokens};  // values number the entries
  EntryMarks marks_{&index_};
  std::vector<Entry> entries_;
  std::vector<Number> free_;  // places in entries_ to be used again
  absl::flat_hash_set<Number, HashKey, EqualKeys> by_key_{0, HashKey{{&entries_}},
                                                          EqualKeys{{&entries_}}};
  absl::flat_hash_set<SegmentKey> writing_;
  absl::flat_hash_set<SegmentKey> used_;  // since TakeUsed
  EvictionOptions eviction_;
  EvictionCosts costs_;
  int64_t payload_bytes_ = 0;
};

}  // namespace reprise
