#include "core/engine/block_cache.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise {

BlockCache::BlockCache(int32_t num_blocks, Metrics* metrics, const EvictionOptions& eviction)
    : pool_(num_blocks),
      owner_(num_blocks, 0),
      cached_(num_blocks, false),
      pins_(num_blocks, 0),
      eviction_(eviction),
      reuses_(num_blocks, 0),
      metrics_(metrics) {}

NamespaceId BlockCache::AddNamespace(int32_t max_blocks) {
  trees_.push_back(std::make_unique<Tree>());
  trees_.back()->max_blocks = max_blocks;
  return static_cast<NamespaceId>(trees_.size()) - 1;
}

std::vector<BlockId> BlockCache::Share(NamespaceId in, absl::Span<const TokenId> ids,
                                       int32_t tokens) {
  Tree& tree = *trees_[in];
  std::vector<BlockId> blocks;
  const std::vector<PrefixIndex::Hit> hits = tree.index.Find(ids).hits;
  const UseKind kind = Branches(tree.index, hits) ? UseKind::kReuse : UseKind::kSame;
  int32_t left = tokens;
  for (const PrefixIndex::Hit& hit : hits) {
    if (left <= 0) break;
    const auto block = static_cast<BlockId>(hit.value);
    Hold(block);
    Use(tree, hit.node, tokens - left, kind);
    blocks.push_back(block);
    left -= hit.tokens;
  }
  return blocks;
}

// Whether a use of `hits` leads elsewhere than the uses before it: what comes next hangs beside
// something else. A conversation that goes on does not, however many turns it has.
bool BlockCache::Branches(const PrefixIndex& index, const std::vector<PrefixIndex::Hit>& hits) {
  if (hits.empty()) return false;
  const PrefixIndex::Hit& last = hits.back();
  return index.num_children(last.node) > 0 ||
         static_cast<size_t>(last.tokens) < index.ids(last.node).size();
}

// Ranks a node anew.
void BlockCache::Use(Tree& tree, PrefixIndex::NodeId node, int32_t depth, UseKind kind) {
  constexpr double kTick = 1e-6;  // a double tells apart seconds of decades by less
  last_use_ = std::max(now_, last_use_ + kTick);
  int64_t& reuses = reuses_[static_cast<BlockId>(tree.index.value(node))];
  if (kind == UseKind::kFirst) reuses = 0;
  if (kind == UseKind::kReuse) ++reuses;
  EvictionFacts facts;
  facts.tokens = static_cast<int32_t>(tree.index.ids(node).size());
  facts.depth = depth;
  facts.last_used_seconds = last_use_;
  facts.reuses = reuses;
  tree.index.Touch(node, OrderOf(EvictionRank(facts, costs_, eviction_)));
}

void BlockCache::CountInUse(BlockId block, int32_t change) {
  cached_in_use_ += change;
  TreeOf(block).cached_in_use += change;
}

std::vector<BlockId> BlockCache::ShareExact(NamespaceId in, absl::Span<const TokenId> ids) {
  const PrefixIndex& index = trees_[in]->index;
  std::vector<BlockId> blocks;
  for (const PrefixIndex::Hit& hit : index.Find(ids).hits) {
    if (index.ids(hit.node).size() != static_cast<size_t>(hit.tokens)) break;
    blocks.push_back(static_cast<BlockId>(hit.value));
    Hold(blocks.back());
  }
  return blocks;
}

void BlockCache::Hold(BlockId block) {
  if (cached_[block] && pool_.references(block) == 1) CountInUse(block, 1);
  pool_.AddReference(block);
}

void BlockCache::Drop(BlockId block) {
  pool_.Release(block);
  if (pool_.references(block) == 0) --TreeOf(block).held;
}

void BlockCache::Release(BlockId block) {
  Drop(block);
  if (cached_[block] && pool_.references(block) == 1) CountInUse(block, -1);
}

absl::StatusOr<BlockId> BlockCache::Allocate(NamespaceId in) {
  Tree& tree = *trees_[in];
  const bool full = tree.max_blocks > 0 && tree.held >= tree.max_blocks;
  if (full && !EvictFrom(tree)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all ", tree.max_blocks, " KV blocks of the namespace are in use"));
  }
  if (pool_.num_free() == 0) EvictOne();
  ASSIGN_OR_RETURN(const BlockId block, pool_.Allocate());
  owner_[block] = in;
  ++tree.held;
  return block;
}

// Of the namespace that holds most and has something to give.
bool BlockCache::EvictOne() {
  Tree* largest = nullptr;
  for (const auto& tree : trees_) {
    if (tree->num_evictable() == 0) continue;
    if (largest == nullptr || tree->held > largest->held) largest = tree.get();
  }
  return largest != nullptr && EvictFrom(*largest);
}

bool BlockCache::EvictFrom(Tree& tree) {
  const auto unused = [this](uint64_t value) {
    return pool_.references(static_cast<BlockId>(value)) == 1;
  };
  const std::vector<PrefixIndex::NodeId> oldest = tree.index.OldestLeaves(1, unused);
  if (oldest.empty()) return false;
  Remove(tree, oldest[0]);
  metrics_->BlocksEvicted(1);
  return true;
}

void BlockCache::Remove(Tree& tree, PrefixIndex::NodeId leaf) {
  tree.marks.Forget(leaf);
  const auto block = static_cast<BlockId>(*tree.index.Remove(leaf));
  if (pool_.references(block) > 1) CountInUse(block, -1);
  cached_[block] = false;
  --num_cached_;
  Drop(block);
}

PrefixIndex::NodeId BlockCache::Keep(Tree& tree, const Place& place, absl::Span<const TokenId> ids,
                                     BlockId& block) {
  const PrefixIndex::Inserted inserted =
      tree.index.Insert(place.parent, ids, static_cast<uint64_t>(block));
  const bool same = tree.index.value(inserted.node) == static_cast<uint64_t>(block);
  Use(tree, inserted.node, place.depth,
      inserted.inserted ? UseKind::kFirst
      : same            ? UseKind::kSame
                        : UseKind::kReuse);
  if (inserted.inserted) {
    pool_.AddReference(block);
    cached_[block] = true;
    ++num_cached_;
    CountInUse(block, 1);  // the sequence that computed it still holds it
  } else {
    const auto equal = static_cast<BlockId>(tree.index.value(inserted.node));
    Hold(equal);
    Release(block);
    block = equal;
  }
  return inserted.node;
}

void BlockCache::Commit(NamespaceId in, absl::Span<const TokenId> ids, absl::Span<BlockId> blocks,
                        bool whole_blocks_only) {
  Tree& tree = *trees_[in];
  PrefixIndex::NodeId parent = PrefixIndex::kRoot;
  for (size_t at = 0; at < ids.size(); at += kBlockTokens) {
    const absl::Span<const TokenId> slice = ids.subspan(at, kBlockTokens);
    const bool whole = slice.size() == kBlockTokens;
    if (!whole && whole_blocks_only) return;
    // A partial block that a longer one already covers adds nothing.
    if (!whole && tree.index.Find(ids).tokens == static_cast<int32_t>(ids.size())) return;
    const auto shorter = tree.index.FindShorterLeaf(parent, slice);
    parent = Keep(tree, {parent, static_cast<int32_t>(at)}, slice, blocks[at / kBlockTokens]);
    if (shorter) Supersede(tree, *shorter, parent);
  }
}

// What was asked of the shorter leaf holds for the longer one that takes its place.
void BlockCache::Supersede(Tree& tree, PrefixIndex::NodeId shorter, PrefixIndex::NodeId longer) {
  const auto old_block = static_cast<BlockId>(tree.index.value(shorter));
  const int32_t pins = pins_[old_block];
  reuses_[static_cast<BlockId>(tree.index.value(longer))] = reuses_[old_block];
  tree.marks.Inherit(shorter, longer);
  for (int32_t i = 0; i < pins; ++i) {
    AddPin(static_cast<BlockId>(tree.index.value(longer)));
    DropPin(old_block);
  }
  Remove(tree, shorter);
}

void BlockCache::AddPin(BlockId block) {
  Hold(block);
  if (pins_[block]++ > 0) return;
  ++num_pinned_;
  ++TreeOf(block).num_pinned;
}

void BlockCache::DropPin(BlockId block) {
  if (--pins_[block] == 0) {
    --num_pinned_;
    --TreeOf(block).num_pinned;
  }
  Release(block);
}

absl::Status BlockCache::CheckPinRoom(const Tree& tree, const PrefixIndex::Match& found) const {
  const auto more = static_cast<int32_t>(std::count_if(
      found.hits.begin(), found.hits.end(),
      [this](const PrefixIndex::Hit& hit) { return pins_[static_cast<BlockId>(hit.value)] == 0; }));
  const auto refuse = [](int32_t blocks, int32_t limit, const char* half_of) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "pinned: ", blocks, " KV blocks, expected at most ", limit, ", half of ", half_of));
  };
  const int32_t limit = num_blocks() / 2, own_limit = tree.max_blocks / 2;
  if (num_pinned_ + more > limit) return refuse(num_pinned_ + more, limit, "the pool");
  if (tree.max_blocks > 0 && tree.num_pinned + more > own_limit) {
    return refuse(tree.num_pinned + more, own_limit, "what the namespace may hold");
  }
  return absl::OkStatus();
}

absl::StatusOr<int32_t> BlockCache::SetPinned(NamespaceId in, absl::Span<const TokenId> ids,
                                              bool pinned) {
  Tree& tree = *trees_[in];
  const PrefixIndex::Match found = tree.index.Find(ids);
  if (found.hits.empty() || found.tokens < static_cast<int32_t>(ids.size())) return 0;
  const PrefixIndex::NodeId last = found.hits.back().node;
  if (tree.marks.IsPinned(last) == pinned) return pinned ? found.tokens : 0;
  if (pinned) RETURN_IF_ERROR(CheckPinRoom(tree, found));
  for (const PrefixIndex::Hit& hit : found.hits) {
    const auto block = static_cast<BlockId>(hit.value);
    pinned ? AddPin(block) : DropPin(block);
  }
  pinned ? tree.marks.Pin(last) : tree.marks.Unpin(last);
  return found.tokens;
}

int32_t BlockCache::PinnedPrefix(NamespaceId in, absl::Span<const TokenId> ids) const {
  int32_t pinned = 0;
  for (const PrefixIndex::Hit& hit : trees_[in]->index.Find(ids).hits) {
    if (!IsPinned(static_cast<BlockId>(hit.value))) break;
    ++pinned;
  }
  return pinned;
}

int32_t BlockCache::SetExpiry(NamespaceId in, absl::Span<const TokenId> ids, absl::Time at) {
  Tree& tree = *trees_[in];
  const PrefixIndex::Match found = tree.index.Find(ids);
  if (found.hits.empty() || found.tokens < static_cast<int32_t>(ids.size())) return 0;
  tree.marks.SetExpiry(found.hits.back().node, at);
  return found.tokens;
}

void BlockCache::SetSegmentExpiry(NamespaceId in, absl::Span<const TokenId> ids, absl::Time at,
                                  int32_t count) {
  Tree& tree = *trees_[in];
  const PrefixIndex::Match found = tree.index.FindWhole(ids);
  const bool all = found.tokens == static_cast<int32_t>(ids.size());
  if (all && !found.hits.empty()) tree.marks.SetExpiry(found.hits.back().node, at, count);
}

SegmentMarks BlockCache::MarksOf(NamespaceId in, absl::Span<const TokenId> ids,
                                 int32_t from) const {
  const Tree& tree = *trees_[in];
  SegmentMarks marks;
  if (tree.marks.empty()) return marks;
  const PrefixIndex::Match found = tree.index.FindWhole(ids);
  int32_t depth = 0;
  for (const PrefixIndex::Hit& hit : found.hits) {
    depth += hit.tokens;
    if (depth > from && tree.marks.IsPinned(hit.node)) marks.pinned_tokens = depth;
  }
  const bool all = depth > from && depth == static_cast<int32_t>(ids.size());
  if (all) marks.expires = tree.marks.ExpiryOf(found.hits.back().node);
  return marks;
}

void BlockCache::DropExpired(absl::Time now) {
  for (const auto& tree : trees_) {
    const auto used = [&](PrefixIndex::NodeId node) {
      return pool_.references(static_cast<BlockId>(tree->index.value(node))) > 1;
    };
    while (true) {  // a parent becomes a leaf with its last child
      const std::vector<PrefixIndex::NodeId> expired = tree->marks.ExpiredLeaves(now, used);
      if (expired.empty()) break;
      for (const PrefixIndex::NodeId leaf : expired) Remove(*tree, leaf);
      metrics_->BlocksEvicted(static_cast<int64_t>(expired.size()));
    }
  }
}

int32_t BlockCache::Purge(NamespaceId in, absl::Span<const TokenId> ids) {
  Tree& tree = *trees_[in];
  const PrefixIndex::Match found = tree.index.FindWhole(ids);
  const bool all = found.tokens == static_cast<int32_t>(ids.size());
  if (all) SetPinned(in, ids, false).IgnoreError();
  int32_t removed = 0, blocks = 0;
  for (auto hit = found.hits.rbegin(); hit != found.hits.rend(); ++hit) {
    // A pin of what the entry begins with is a use too.
    const bool used = pool_.references(static_cast<BlockId>(hit->value)) > 1;
    if (used || !tree.index.IsLeaf(hit->node)) break;
    removed += static_cast<int32_t>(tree.index.ids(hit->node).size());
    Remove(tree, hit->node);
    ++blocks;
  }
  if (blocks > 0) metrics_->BlocksEvicted(blocks);
  return removed;
}

int64_t BlockCache::cached_tokens() const {
  int64_t tokens = 0;
  for (const auto& tree : trees_) tokens += tree->index.total_tokens();
  return tokens;
}

}  // namespace reprise
