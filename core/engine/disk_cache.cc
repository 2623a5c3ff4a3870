#include "core/engine/disk_cache.h"

#include <algorithm>
#include <tuple>

namespace reprise {

const DiskCache::Entry& DiskCache::EntryOf(PrefixIndex::NodeId node) const {
  return entries_.at(index_.value(node));
}

DiskCache::Match DiskCache::Find(absl::Span<const TokenId> ids) const {
  const PrefixIndex::Match found = index_.Find(ids);
  Match match;
  match.tokens = found.tokens;
  for (const PrefixIndex::Hit& hit : found.hits) {
    match.segments.push_back(EntryOf(hit.node).record);
  }
  return match;
}

bool DiskCache::HoldsMoreThan(absl::Span<const TokenId> ids) const {
  const PrefixIndex::Match found = index_.Find(ids);
  if (found.hits.empty() || found.tokens < static_cast<int32_t>(ids.size())) return false;
  const PrefixIndex::Hit& last = found.hits.back();
  return !index_.IsLeaf(last.node) ||
         static_cast<size_t>(last.tokens) < index_.ids(last.node).size();
}

std::optional<std::vector<SegmentKey>> DiskCache::Add(const SegmentRecord& record) {
  if (by_key_.contains(record.key)) return std::vector<SegmentKey>();
  PrefixIndex::NodeId parent = PrefixIndex::kRoot;
  if (record.start_position > 0) {
    const auto found = by_key_.find(record.parent);
    if (found == by_key_.end()) return std::nullopt;
    parent = entries_.at(found->second).node;
  }
  std::vector<SegmentKey> superseded;
  const auto shorter = index_.FindShorterLeaf(parent, record.ids);
  if (shorter) superseded.push_back(EntryOf(*shorter).record.key);
  const uint64_t number = next_number_++;
  const auto inserted = index_.Insert(parent, record.ids, number);
  if (!inserted.inserted) return superseded;
  entries_[number] = {record, inserted.node};
  Rank(entries_[number]);
  by_key_[record.key] = number;
  payload_bytes_ += record.payload_bytes;
  RestoreMarks(inserted.node);
  if (shorter) {
    marks_.Inherit(*shorter, inserted.node);
    KeepMarks(inserted.node);
    Erase(*shorter);
  }
  return superseded;
}

void DiskCache::Rank(const Entry& entry) {
  constexpr double kTick = 1e-6;
  const SegmentRecord& record = entry.record;
  last_use_ = std::max(static_cast<double>(record.last_used_unix_ms) * 1e-3, last_use_ + kTick);
  EvictionFacts facts;
  facts.tokens = static_cast<int32_t>(record.ids.size());
  facts.depth = record.start_position;
  facts.bytes = record.payload_bytes;
  facts.last_used_seconds = last_use_;
  facts.reuses = record.hit_count;
  index_.Touch(entry.node, OrderOf(EvictionRank(facts, costs_, eviction_)));
}

// Takes the marks of a record that the store had.
void DiskCache::RestoreMarks(PrefixIndex::NodeId node) {
  const SegmentRecord& record = EntryOf(node).record;
  if (record.pinned) marks_.Pin(node);
  if (record.expires_unix_ms > 0) {
    marks_.SetExpiryOfOne(node, absl::FromUnixMillis(record.expires_unix_ms));
  }
}

// Writes the marks of a node into its record, which is then to be saved.
void DiskCache::KeepMarks(PrefixIndex::NodeId node) {
  SegmentRecord& record = entries_.at(index_.value(node)).record;
  const absl::Time expiry = marks_.ExpiryOf(node);
  const int64_t expires_ms = expiry == absl::InfiniteFuture() ? 0 : absl::ToUnixMillis(expiry);
  if (record.pinned == marks_.IsPinned(node) && record.expires_unix_ms == expires_ms) return;
  record.pinned = marks_.IsPinned(node);
  record.expires_unix_ms = expires_ms;
  used_.insert(record.key);
}

int32_t DiskCache::SetPinned(absl::Span<const TokenId> ids, bool pinned) {
  const PrefixIndex::Match found = index_.Find(ids);
  if (found.hits.empty()) return 0;
  std::optional<PrefixIndex::NodeId> last = found.hits.back().node;
  if (!pinned) last = marks_.LastPinned(found.hits);
  if (!last) return 0;
  pinned ? marks_.Pin(*last) : marks_.Unpin(*last);
  KeepMarks(*last);
  int32_t tokens = 0;
  for (const PrefixIndex::Hit& hit : found.hits) {
    tokens += hit.tokens;
    if (hit.node == *last) break;
  }
  return tokens;
}

int32_t DiskCache::SetExpiry(absl::Span<const TokenId> ids, absl::Time at) {
  const PrefixIndex::Match found = index_.Find(ids);
  if (found.hits.empty()) return 0;
  marks_.SetExpiry(found.hits.back().node, at);
  for (const PrefixIndex::Hit& hit : found.hits) KeepMarks(hit.node);
  return found.tokens;
}

std::vector<SegmentKey> DiskCache::Purge(absl::Span<const TokenId> ids) {
  std::vector<SegmentKey> purged;
  const PrefixIndex::Match found = index_.Find(ids);
  for (auto hit = found.hits.rbegin(); hit != found.hits.rend(); ++hit) {
    if (!index_.IsLeaf(hit->node)) break;
    purged.push_back(EntryOf(hit->node).record.key);
    Erase(hit->node);
  }
  return purged;
}

std::vector<SegmentKey> DiskCache::DropExpired(absl::Time now) {
  std::vector<SegmentKey> dropped;
  while (true) {  // a parent becomes a leaf with its last child
    const auto expired = marks_.ExpiredLeaves(now, [](PrefixIndex::NodeId) { return false; });
    if (expired.empty()) return dropped;
    for (const PrefixIndex::NodeId leaf : expired) {
      dropped.push_back(EntryOf(leaf).record.key);
      Erase(leaf);
    }
  }
}

void DiskCache::Erase(PrefixIndex::NodeId node) {
  const auto value = index_.Remove(node);
  if (!value) return;
  marks_.Forget(node);
  const auto entry = entries_.find(*value);
  payload_bytes_ -= entry->second.record.payload_bytes;
  by_key_.erase(entry->second.record.key);
  entries_.erase(entry);
}

std::vector<SegmentKey> DiskCache::Forget(const SegmentKey& key) {
  std::vector<SegmentKey> forgotten;
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return forgotten;
  const PrefixIndex::NodeId top = entries_.at(found->second).node;
  // Leaves first: what hangs below `top` cannot be reached without it.
  while (index_.Contains(top)) {
    const auto below = [&](uint64_t value) {
      PrefixIndex::NodeId at = entries_.at(value).node;
      while (at != PrefixIndex::kRoot && at != top) at = index_.parent(at);
      return at == top;
    };
    const auto leaves = index_.OldestLeaves(index_.size(), below);
    for (const PrefixIndex::NodeId leaf : leaves) {
      forgotten.push_back(EntryOf(leaf).record.key);
      Erase(leaf);
    }
  }
  return forgotten;
}

void DiskCache::Touch(absl::Span<const SegmentRecord> segments, int64_t now_unix_ms) {
  for (const SegmentRecord& segment : segments) {
    const auto found = by_key_.find(segment.key);
    if (found == by_key_.end()) continue;
    Entry& entry = entries_.at(found->second);
    entry.record.last_used_unix_ms = now_unix_ms;
    ++entry.record.hit_count;
    Rank(entry);
    used_.insert(segment.key);
  }
}

std::vector<SegmentRecord> DiskCache::TakeUsed() {
  std::vector<SegmentRecord> used;
  for (const SegmentKey& key : used_) {
    const auto found = by_key_.find(key);
    if (found != by_key_.end()) used.push_back(entries_.at(found->second).record);
  }
  used_.clear();
  return used;
}

void DiskCache::OrderByLastUse() {
  std::vector<const Entry*> oldest_first;
  for (const auto& [number, entry] : entries_) oldest_first.push_back(&entry);
  std::sort(oldest_first.begin(), oldest_first.end(), [](const Entry* a, const Entry* b) {
    return std::tie(a->record.last_used_unix_ms, a->node) <
           std::tie(b->record.last_used_unix_ms, b->node);
  });
  last_use_ = 0;
  for (const Entry* entry : oldest_first) Rank(*entry);
}

std::vector<SegmentRecord> DiskCache::Missing(absl::Span<const TokenId> ids) const {
  std::vector<SegmentRecord> missing;
  if (index_.Find(ids).tokens == static_cast<int32_t>(ids.size())) return missing;
  SegmentKey parent = identity_;
  for (size_t at = 0; at < ids.size(); at += kSegmentTokens) {
    const absl::Span<const TokenId> slice = ids.subspan(at, kSegmentTokens);
    SegmentRecord record;
    record.kind = slice.size() == kSegmentTokens ? SegmentKind::kFull : SegmentKind::kTail;
    record.parent = parent;
    record.key = ComputeSegmentKey(record.kind, parent, slice);
    record.identity = identity_;
    record.start_position = static_cast<int32_t>(at);
    record.ids.assign(slice.begin(), slice.end());
    parent = record.key;
    if (by_key_.contains(record.key) || writing_.contains(record.key)) continue;
    missing.push_back(std::move(record));
  }
  return missing;
}

std::vector<SegmentKey> DiskCache::EvictPast(int64_t max_bytes) {
  std::vector<SegmentKey> evicted;
  while (payload_bytes_ > max_bytes) {
    const auto unpinned = [this](uint64_t value) {
      return !marks_.IsPinned(entries_.at(value).node);
    };
    const auto leaves = index_.OldestLeaves(1, unpinned);
    if (leaves.empty()) break;
    evicted.push_back(EntryOf(leaves[0]).record.key);
    Erase(leaves[0]);
  }
  return evicted;
}

}  // namespace reprise
