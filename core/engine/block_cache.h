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

  // As Share of all `ids`, up to the first block that is not cached or holds more than its
  // part of them: whole blocks and, at the end, one that holds just the rest.
  std::vector<BlockId> ShareExact(absl::Span<const TokenId> ids);

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

  int32_t num_blocks() const { return pool_.num_blocks(); }
  int32_t num_free() const { return pool_.num_free(); }
  int32_t num_cached() const { return static_cast<int32_t>(index_.size()); }
  int64_t cached_tokens() const { return index_.total_tokens(); }

  // Blocks a sequence could get: free ones and those only the cache holds.
  int32_t num_available() const { return pool_.num_free() + num_cached() - cached_in_use_; }

 private:
  bool EvictOne();
  PrefixIndex::NodeId Keep(PrefixIndex::NodeId parent, absl::Span<const TokenId> ids,
                           BlockId& block);

  BlockPool pool_;
  PrefixIndex index_{kBlockTokens};  // values are BlockIds
  std::vector<bool> cached_;         // by BlockId: in index_
  int32_t cached_in_use_ = 0;        // cached blocks that sequences hold too
  uint64_t tick_ = 0;
  Metrics* metrics_;
};

}  // namespace reprise
