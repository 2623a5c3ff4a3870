// BlockCache: the KV blocks in memory, those of running sequences and those kept
// for reuse, with the index that finds them by token ids.
//
// A cached block holds one reference of the cache; a sequence that uses it holds
// another. Blocks that only the cache holds are evicted, least recently used
// leaves first, when a sequence needs room.
//
// Threading  not thread-safe; the engine thread owns it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/kv/block_pool.h"
#include "core/kv/entry_marks.h"
#include "core/kv/prefix_index.h"
#include "core/telemetry/metrics.h"

namespace reprise {

class BlockCache {
 public:
  BlockCache(int32_t num_blocks, Metrics* metrics);

  // Longest cached prefix of `ids`, in tokens.
  int32_t MatchedTokens(absl::Span<const TokenId> ids) const { return index_.Find(ids).tokens; }

  // The blocks of the first `tokens` matched ids, each with a reference for the
  // caller; the last may be used in part and must then be copied before writing.
  std::vector<BlockId> Share(absl::Span<const TokenId> ids, int32_t tokens);

  // A private block for a sequence; evicts when none is free. kResourceExhausted
  // when every block is in use.
  absl::StatusOr<BlockId> Allocate();

  // Another use of a block that the caller already holds.
  void Hold(BlockId block);

  // Ends one use of a block.
  void Release(BlockId block);

  // Keeps the KV of `ids`, which lies in `blocks` in order, for reuse. With
  // `whole_blocks_only` the last, partly filled block stays private. Where equal
  // KV is cached already, the caller's block is released and its place in `blocks`
  // taken by the cached one: who uses a cached block then also uses those before
  // it, so that every unused block can be evicted.
  void Commit(absl::Span<const TokenId> ids, absl::Span<BlockId> blocks, bool whole_blocks_only);

  // Keeps the blocks of the matched beginning of `ids` until unpinned, however much room
  // others need. Pinned blocks are at most half of the pool: kResourceExhausted, nothing
  // changed. Otherwise the tokens that are, or were, pinned; 0: nothing to do.
  absl::StatusOr<int32_t> SetPinned(absl::Span<const TokenId> ids, bool pinned);

  // Lets the matched beginning of `ids`, as far as nothing else reaches it, expire at
  // `at`; absl::InfiniteFuture(): never. The tokens matched.
  int32_t SetExpiry(absl::Span<const TokenId> ids, absl::Time at);

  // Removes what expired by `now` and nobody uses.
  void DropExpired(absl::Time now);

  int32_t num_pinned() const { return num_pinned_; }

  int32_t num_blocks() const { return pool_.num_blocks(); }
  int32_t num_free() const { return pool_.num_free(); }
  int32_t num_cached() const { return static_cast<int32_t>(index_.size()); }
  int64_t cached_tokens() const { return index_.total_tokens(); }

  // Blocks a sequence could get: free ones and those only the cache holds.
  int32_t num_available() const { return pool_.num_free() + num_cached() - cached_in_use_; }

 private:
  bool EvictOne();
  void Remove(PrefixIndex::NodeId leaf);
  void Supersede(PrefixIndex::NodeId shorter, PrefixIndex::NodeId longer);
  void AddPin(BlockId block);
  void DropPin(BlockId block);
  PrefixIndex::NodeId Keep(PrefixIndex::NodeId parent, absl::Span<const TokenId> ids,
                           BlockId& block);

  BlockPool pool_;
  PrefixIndex index_{kBlockTokens};  // values are BlockIds
  EntryMarks marks_{&index_};
  std::vector<bool> cached_;   // by BlockId: in index_
  std::vector<int32_t> pins_;  // by BlockId: pinned entries that need it, a use each
  int32_t num_pinned_ = 0;     // blocks with pins
  int32_t cached_in_use_ = 0;  // cached blocks that sequences hold too
  uint64_t tick_ = 0;
  Metrics* metrics_;
};

}  // namespace reprise
