#include "core/engine/block_cache.h"

#include <algorithm>

namespace reprise {

BlockCache::BlockCache(int32_t num_blocks, Metrics* metrics)
    : pool_(num_blocks), cached_(num_blocks, false), metrics_(metrics) {}

std::vector<BlockId> BlockCache::Share(absl::Span<const TokenId> ids, int32_t tokens) {
  std::vector<BlockId> blocks;
  int32_t left = tokens;
  for (const PrefixIndex::Hit& hit : index_.Find(ids).hits) {
    if (left <= 0) break;
    const auto block = static_cast<BlockId>(hit.value);
    Hold(block);
    index_.Touch(hit.node, ++tick_);
    blocks.push_back(block);
    left -= hit.tokens;
  }
  return blocks;
}

std::vector<BlockId> BlockCache::ShareExact(absl::Span<const TokenId> ids) {
  std::vector<BlockId> blocks;
  for (const PrefixIndex::Hit& hit : index_.Find(ids).hits) {
    if (index_.ids(hit.node).size() != static_cast<size_t>(hit.tokens)) break;
    blocks.push_back(static_cast<BlockId>(hit.value));
    Hold(blocks.back());
  }
  return blocks;
}

void BlockCache::Hold(BlockId block) {
  if (cached_[block] && pool_.references(block) == 1) ++cached_in_use_;
  pool_.AddReference(block);
}

absl::StatusOr<BlockId> BlockCache::Allocate() {
  if (pool_.num_free() == 0) EvictOne();
  return pool_.Allocate();
}

bool BlockCache::EvictOne() {
  const auto unused = [this](uint64_t value) {
    return pool_.references(static_cast<BlockId>(value)) == 1;
  };
  const std::vector<PrefixIndex::NodeId> oldest = index_.OldestLeaves(1, unused);
  if (oldest.empty()) return false;
  const auto block = static_cast<BlockId>(*index_.Remove(oldest[0]));
  cached_[block] = false;
  pool_.Release(block);
  metrics_->BlocksEvicted(1);
  return true;
}

void BlockCache::Release(BlockId block) {
  pool_.Release(block);
  if (cached_[block] && pool_.references(block) == 1) --cached_in_use_;
}

PrefixIndex::NodeId BlockCache::Keep(PrefixIndex::NodeId parent, absl::Span<const TokenId> ids,
                                     BlockId& block) {
  const PrefixIndex::Inserted inserted = index_.Insert(parent, ids, static_cast<uint64_t>(block));
  index_.Touch(inserted.node, ++tick_);
  if (inserted.inserted) {
    pool_.AddReference(block);
    cached_[block] = true;
    ++cached_in_use_;  // the sequence that computed it still holds it
  } else {
    const auto equal = static_cast<BlockId>(index_.value(inserted.node));
    Hold(equal);
    Release(block);
    block = equal;
  }
  return inserted.node;
}

void BlockCache::Commit(absl::Span<const TokenId> ids, absl::Span<BlockId> blocks,
                        bool whole_blocks_only) {
  PrefixIndex::NodeId parent = PrefixIndex::kRoot;
  for (size_t at = 0; at < ids.size(); at += kBlockTokens) {
    const absl::Span<const TokenId> slice = ids.subspan(at, kBlockTokens);
    const bool whole = slice.size() == kBlockTokens;
    if (!whole && whole_blocks_only) return;
    // A partial block that a longer one already covers adds nothing.
    if (!whole && index_.Find(ids).tokens == static_cast<int32_t>(ids.size())) return;
    if (const auto shorter = index_.FindShorterLeaf(parent, slice)) {  // superseded
      const auto block = static_cast<BlockId>(*index_.Remove(*shorter));
      cached_[block] = false;
      if (pool_.references(block) > 1) --cached_in_use_;
      pool_.Release(block);
    }
    parent = Keep(parent, slice, blocks[at / kBlockTokens]);
  }
}

}  // namespace reprise
