#include "core/engine/block_cache.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"

namespace reprise {

BlockCache::BlockCache(int32_t num_blocks, Metrics* metrics)
    : pool_(num_blocks), cached_(num_blocks, false), pins_(num_blocks, 0), metrics_(metrics) {}

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
  Remove(oldest[0]);
  metrics_->BlocksEvicted(1);
  return true;
}

void BlockCache::Remove(PrefixIndex::NodeId leaf) {
  const auto block = static_cast<BlockId>(*index_.Remove(leaf));
  cached_[block] = false;
  if (pool_.references(block) > 1) --cached_in_use_;
  pool_.Release(block);
  marks_.Forget(leaf);
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
    const auto shorter = index_.FindShorterLeaf(parent, slice);
    parent = Keep(parent, slice, blocks[at / kBlockTokens]);
    if (shorter) Supersede(*shorter, parent);
  }
}

// What was asked of the shorter leaf holds for the longer one that takes its place.
void BlockCache::Supersede(PrefixIndex::NodeId shorter, PrefixIndex::NodeId longer) {
  const auto old_block = static_cast<BlockId>(index_.value(shorter));
  const int32_t pins = pins_[old_block];
  marks_.Inherit(shorter, longer);
  for (int32_t i = 0; i < pins; ++i) {
    AddPin(static_cast<BlockId>(index_.value(longer)));
    DropPin(old_block);
  }
  Remove(shorter);
}

void BlockCache::AddPin(BlockId block) {
  Hold(block);
  if (pins_[block]++ == 0) ++num_pinned_;
}

void BlockCache::DropPin(BlockId block) {
  if (--pins_[block] == 0) --num_pinned_;
  Release(block);
}

absl::StatusOr<int32_t> BlockCache::SetPinned(absl::Span<const TokenId> ids, bool pinned) {
  const PrefixIndex::Match found = index_.Find(ids);
  if (found.hits.empty()) return 0;
  std::optional<PrefixIndex::NodeId> last = found.hits.back().node;
  if (!pinned) last = marks_.LastPinned(found.hits);
  if (!last || marks_.IsPinned(*last) == pinned) return pinned ? found.tokens : 0;
  if (pinned) {
    const auto unpinned =
        std::count_if(found.hits.begin(), found.hits.end(), [this](const PrefixIndex::Hit& hit) {
          return pins_[static_cast<BlockId>(hit.value)] == 0;
        });
    const int32_t limit = num_blocks() / 2;
    if (num_pinned_ + unpinned > limit) {
      return absl::ResourceExhaustedError(absl::StrCat("pinned: ", num_pinned_ + unpinned,
                                                       " KV blocks, expected at most ", limit,
                                                       ", half of the pool"));
    }
  }
  int32_t tokens = 0;
  for (const PrefixIndex::Hit& hit : found.hits) {
    const auto block = static_cast<BlockId>(hit.value);
    pinned ? AddPin(block) : DropPin(block);
    tokens += hit.tokens;
    if (hit.node == *last) break;
  }
  pinned ? marks_.Pin(*last) : marks_.Unpin(*last);
  return tokens;
}

int32_t BlockCache::SetExpiry(absl::Span<const TokenId> ids, absl::Time at) {
  const PrefixIndex::Match found = index_.Find(ids);
  if (!found.hits.empty()) marks_.SetExpiry(found.hits.back().node, at);
  return found.tokens;
}

void BlockCache::DropExpired(absl::Time now) {
  const auto used = [this](PrefixIndex::NodeId node) {
    return pool_.references(static_cast<BlockId>(index_.value(node))) > 1;
  };
  while (true) {  // a parent becomes a leaf with its last child
    const std::vector<PrefixIndex::NodeId> expired = marks_.ExpiredLeaves(now, used);
    if (expired.empty()) return;
    for (const PrefixIndex::NodeId leaf : expired) Remove(leaf);
    metrics_->BlocksEvicted(static_cast<int64_t>(expired.size()));
  }
}

}  // namespace reprise
