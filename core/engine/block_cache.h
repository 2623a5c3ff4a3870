// BlockCache: the KV blocks in memory, those of running sequences and those kept
// for reuse, with the index that finds them by token ids.
//
// A cached block holds one reference of the cache; a sequence that uses it holds
// another. Blocks that only the cache holds are evicted when a sequence needs room:
// leaves first, in the order of core/kv/eviction_rank.h.
//
// Each namespace has a tree of its own: nothing is found across them. A namespace with a
// limit evicts its own blocks when it has reached that; when the pool is full, the
// namespace that holds most blocks gives way, so that one that floods the cache hurts itself.
//
// Threading  not thread-safe; the engine thread owns it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/kv/block_pool.h"
#include "core/kv/entry_marks.h"
#include "core/kv/eviction_rank.h"
#include "core/kv/prefix_index.h"
#include "core/telemetry/metrics.h"

namespace reprise {

using NamespaceId = int32_t;

// Of a segment, as its record in the store has them.
struct SegmentMarks {
  int32_t pinned_tokens = 0;  // up to the end of the last pinned entry in it; 0: it has none
  absl::Time expires = absl::InfiniteFuture();
};

class BlockCache {
 public:
  BlockCache(int32_t num_blocks, Metrics* metrics, const EvictionOptions& eviction = {});

  // The time of the uses that follow, and what computing costs, for the ranks.
  void SetNow(double seconds) { now_ = seconds; }
  void SetCosts(const EvictionCosts& costs) { costs_ = costs; }

  // A namespace that may hold `max_blocks`, those of running sequences included; 0: as many
  // as there are.
  NamespaceId AddNamespace(int32_t max_blocks);

  // Longest cached prefix of `ids`, in tokens.
  int32_t MatchedTokens(NamespaceId in, absl::Span<const TokenId> ids) const {
    return trees_[in]->index.Find(ids).tokens;
  }

  // The blocks of the first `tokens` matched ids, each with a reference for the
  // caller; the last may be used in part and must then be copied before writing.
  std::vector<BlockId> Share(NamespaceId in, absl::Span<const TokenId> ids, int32_t tokens);

  // As Share of all `ids`, up to the first block that is not cached or holds more than its
  // part of them: whole blocks and, at the end, one that holds just the rest.
  std::vector<BlockId> ShareExact(NamespaceId in, absl::Span<const TokenId> ids);

  // A private block for a sequence of the namespace; evicts when none is free, or when the
  // namespace holds all it may. kResourceExhausted when every block is in use.
  absl::StatusOr<BlockId> Allocate(NamespaceId in);

  // Another use of a block that the caller already holds.
  void Hold(BlockId block);

  // Ends one use of a block.
  void Release(BlockId block);

  // Keeps the KV of `ids`, which lies in `blocks` in order, for reuse. With
  // `whole_blocks_only` the last, partly filled block stays private. Where equal
  // KV is cached already, the caller's block is released and its place in `blocks`
  // taken by the cached one: who uses a cached block then also uses those before
  // it, so that every unused block can be evicted.
  void Commit(NamespaceId in, absl::Span<const TokenId> ids, absl::Span<BlockId> blocks,
              bool whole_blocks_only);

  // Keeps the blocks of `ids` until unpinned, however much room others need. Pinned blocks are
  // at most half of the pool, and of what the namespace may hold: kResourceExhausted, nothing
  // changed. Otherwise the tokens that are, or were, pinned; 0: nothing to do, or not all of
  // `ids` is here. Pins of what `ids` begin with stay.
  absl::StatusOr<int32_t> SetPinned(NamespaceId in, absl::Span<const TokenId> ids, bool pinned);

  // Of the blocks that hold the beginning of `ids` those that are pinned, from the front.
  int32_t PinnedPrefix(NamespaceId in, absl::Span<const TokenId> ids) const;
  bool IsPinned(BlockId block) const { return pins_[block] > 0; }

  // Lets `ids`, as far as nothing else reaches them, expire at `at`; absl::InfiniteFuture():
  // never. How many they are; 0: not all of them are here.
  int32_t SetExpiry(NamespaceId in, absl::Span<const TokenId> ids, absl::Time at);

  // Lets the last `count` blocks of `ids` expire at `at`, as the segment that they were loaded
  // from; not where the last is of something longer.
  void SetSegmentExpiry(NamespaceId in, absl::Span<const TokenId> ids, absl::Time at,
                        int32_t count);

  // The marks of a segment of `ids` behind the first `from`: pinned, where an entry that ends
  // in it is; it expires as its last block.
  SegmentMarks MarksOf(NamespaceId in, absl::Span<const TokenId> ids, int32_t from) const;

  // Removes what expired by `now` and nobody uses.
  void DropExpired(absl::Time now);

  // Removes the blocks that hold only `ids`, as far as nothing else reaches them, nobody uses
  // them and no pin of what `ids` begin with keeps them; that of `ids` goes. The tokens removed.
  int32_t Purge(NamespaceId in, absl::Span<const TokenId> ids);

  // To list entries: leaves of the namespace's tree, and what was asked of them.
  const PrefixIndex& index(NamespaceId in) const { return trees_[in]->index; }
  const EntryMarks& marks(NamespaceId in) const { return trees_[in]->marks; }

  int32_t num_blocks() const { return pool_.num_blocks(); }
  int32_t num_free() const { return pool_.num_free(); }
  int32_t num_pinned() const { return num_pinned_; }
  int32_t num_cached() const { return num_cached_; }
  int64_t cached_tokens() const;

  // Blocks a sequence could get: free ones and those only the cache holds.
  int32_t num_available() const { return pool_.num_free() + num_cached_ - cached_in_use_; }

  // Of one namespace.
  int32_t max_blocks(NamespaceId in) const { return trees_[in]->max_blocks; }
  int32_t num_held(NamespaceId in) const { return trees_[in]->held; }
  int32_t num_cached(NamespaceId in) const { return trees_[in]->num_cached(); }
  int32_t num_pinned(NamespaceId in) const { return trees_[in]->num_pinned; }
  int64_t cached_tokens(NamespaceId in) const { return trees_[in]->index.total_tokens(); }

 private:
  struct Tree {
    PrefixIndex index{kBlockTokens};  // values are BlockIds
    EntryMarks marks{&index};
    int32_t max_blocks = 0;     // 0: no limit of its own
    int32_t held = 0;           // blocks that are not free
    int32_t cached_in_use = 0;  // cached blocks that sequences hold too
    int32_t num_pinned = 0;     // blocks with pins

    int32_t num_cached() const { return static_cast<int32_t>(index.size()); }
    int32_t num_evictable() const { return num_cached() - cached_in_use; }
  };

  Tree& TreeOf(BlockId block) { return *trees_[owner_[block]]; }
  bool EvictOne();
  bool EvictFrom(Tree& tree);
  void CountInUse(BlockId block, int32_t change);
  void Drop(BlockId block);
  void Remove(Tree& tree, PrefixIndex::NodeId leaf);
  void Supersede(Tree& tree, PrefixIndex::NodeId shorter, PrefixIndex::NodeId longer);
  absl::Status CheckPinRoom(const Tree& tree, const PrefixIndex::Match& found) const;
  void AddPin(BlockId block);
  void DropPin(BlockId block);
  struct Place {  // a node's, or where one is to be added
    PrefixIndex::NodeId parent = 0;
    int32_t depth = 0;  // tokens before it
  };
  PrefixIndex::NodeId Keep(Tree& tree, const Place& place, absl::Span<const TokenId> ids,
                           BlockId& block);
  enum class UseKind { kFirst, kReuse, kSame };  // kSame: by who counts as a use already
  static bool Branches(const PrefixIndex& index, const std::vector<PrefixIndex::Hit>& hits);
  void Use(Tree& tree, PrefixIndex::NodeId node, int32_t depth, UseKind kind);

  BlockPool pool_;
  std::vector<std::unique_ptr<Tree>> trees_;  // by NamespaceId
  std::vector<NamespaceId> owner_;            // by BlockId: who allocated it last
  std::vector<bool> cached_;                  // by BlockId: in an index
  std::vector<int32_t> pins_;                 // by BlockId: pinned entries that need it, a use each
  int32_t num_cached_ = 0;                    // of all namespaces, as the next two
  int32_t num_pinned_ = 0;
  int32_t cached_in_use_ = 0;
  EvictionOptions eviction_;
  EvictionCosts costs_;
  double now_ = 0;
  double last_use_ = 0;          // each use counts as later than the one before
  std::vector<int64_t> reuses_;  // by BlockId: uses that led on to something else
  Metrics* metrics_;
};

}  // namespace reprise
