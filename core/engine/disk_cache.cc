#include "core/engine/disk_cache.h"

#include <algorithm>

namespace reprise {

const DiskCache::Entry& DiskCache::EntryOf(PrefixIndex::NodeId node) const {
  return entries_[index_.value(node)];
}

DiskCache::Entry* DiskCache::Find(const SegmentKey& key) {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : &entries_[*found];
}

SegmentRecord DiskCache::RecordOf(const Entry& entry, const SegmentKey& parent,
                                  int32_t start_position) const {
  SegmentRecord record;
  record.key = entry.key;
  record.parent = parent;
  record.identity = identity_;
  record.start_position = start_position;
  const absl::Span<const TokenId> ids = index_.ids(entry.node);
  record.kind = ids.size() == kSegmentTokens ? SegmentKind::kFull : SegmentKind::kTail;
  record.ids.assign(ids.begin(), ids.end());
  record.payload_bytes = entry.payload_bytes;
  record.stored_bytes = entry.stored_bytes;
  record.codec = entry.codec;
  record.created_unix_ms = entry.created_unix_ms;
  record.last_used_unix_ms = entry.last_used_unix_ms;
  record.hit_count = entry.hit_count;
  record.pinned = entry.pinned;
  record.expires_unix_ms = entry.expires_unix_ms;
  return record;
}

DiskCache::Match DiskCache::Find(absl::Span<const TokenId> ids) const {
  const PrefixIndex::Match found = index_.Find(ids);
  Match match;
  match.tokens = found.tokens;
  match.segments.reserve(found.hits.size());
  const SegmentKey* parent = &identity_;
  for (const PrefixIndex::Hit& hit : found.hits) {
    const Entry& entry = EntryOf(hit.node);
    const auto start = static_cast<int32_t>(match.segments.size()) * kSegmentTokens;
    match.segments.push_back(RecordOf(entry, *parent, start));
    parent = &entry.key;
  }
  return match;
}

DiskCache::Match DiskCache::FindEntry(absl::Span<const TokenId> ids) const {
  const PrefixIndex::Match whole = index_.FindWhole(ids);
  const bool all = whole.tokens == static_cast<int32_t>(ids.size());
  if (whole.hits.empty() || (!all && !index_.IsLeaf(whole.hits.back().node))) return {};
  return Find(ids.first(static_cast<size_t>(whole.tokens)));
}

bool DiskCache::HoldsMoreThan(absl::Span<const TokenId> ids) const {
  const PrefixIndex::Match found = index_.Find(ids);
  if (found.hits.empty() || found.tokens < static_cast<int32_t>(ids.size())) return false;
  const PrefixIndex::Hit& last = found.hits.back();
  return !index_.IsLeaf(last.node) ||
         static_cast<size_t>(last.tokens) < index_.ids(last.node).size();
}

void DiskCache::Reserve(size_t segments) {
  entries_.reserve(segments);
  by_key_.reserve(segments);
  index_.Reserve(segments);
}

std::optional<std::vector<SegmentKey>> DiskCache::Add(const SegmentRecord& record) {
  if (by_key_.contains(record.key)) return std::vector<SegmentKey>();
  PrefixIndex::NodeId parent = PrefixIndex::kRoot;
  if (record.start_position > 0) {
    const Entry* found = Find(record.parent);
    if (found == nullptr) return std::nullopt;
    parent = found->node;
  }
  std::vector<SegmentKey> superseded;
  const auto shorter = index_.FindShorterLeaf(parent, record.ids);
  if (shorter) superseded.push_back(EntryOf(*shorter).key);
  const auto number = free_.empty() ? static_cast<Number>(entries_.size()) : free_.back();
  const auto inserted = index_.Insert(parent, record.ids, number);
  if (!inserted.inserted) return superseded;
  free_.empty() ? static_cast<void>(entries_.emplace_back()) : free_.pop_back();
  Entry& entry = entries_[number];
  entry.key = record.key;
  entry.node = inserted.node;
  entry.payload_bytes = record.payload_bytes;
  entry.stored_bytes = record.stored_bytes;
  entry.start_position = record.start_position;
  entry.pinned = record.pinned;
  entry.expires_unix_ms = record.expires_unix_ms;
  entry.codec = record.codec;
  entry.created_unix_ms = record.created_unix_ms;
  entry.hit_count = record.hit_count;
  Touch(entry, record.last_used_unix_ms);
  by_key_.insert(number);
  payload_bytes_ += record.stored_bytes;
  RestoreMarks(inserted.node);
  if (shorter) {
    marks_.Inherit(*shorter, inserted.node);
    KeepMarks(inserted.node);
    Erase(*shorter);
  }
  return superseded;
}

// A use is ranked by its time, so that records may be added in any order.
void DiskCache::Touch(Entry& entry, int64_t unix_ms) {
  entry.last_used_unix_ms = unix_ms;
  EvictionFacts facts;
  facts.tokens = static_cast<int32_t>(index_.ids(entry.node).size());
  facts.depth = entry.start_position;
  facts.bytes = entry.stored_bytes;
  facts.last_used_seconds = static_cast<double>(unix_ms) * 1e-3;
  facts.reuses = entry.hit_count;
  index_.Touch(entry.node, OrderOf(EvictionRank(facts, costs_, eviction_)));
}

// Takes the marks of a record that the store had.
void DiskCache::RestoreMarks(PrefixIndex::NodeId node) {
  const Entry& entry = EntryOf(node);
  if (entry.pinned) marks_.Pin(node);
  if (entry.expires_unix_ms > 0) {
    marks_.SetExpiryOfOne(node, absl::FromUnixMillis(entry.expires_unix_ms));
  }
}

// Notes the marks of a node for its record, which is then to be saved.
void DiskCache::KeepMarks(PrefixIndex::NodeId node) {
  Entry& entry = entries_[index_.value(node)];
  const absl::Time expiry = marks_.ExpiryOf(node);
  const int64_t expires_ms = expiry == absl::InfiniteFuture() ? 0 : absl::ToUnixMillis(expiry);
  if (entry.pinned == marks_.IsPinned(node) && entry.expires_unix_ms == expires_ms) return;
  entry.pinned = marks_.IsPinned(node);
  entry.expires_unix_ms = expires_ms;
  used_.insert(entry.key);
}

int32_t DiskCache::SetPinned(absl::Span<const TokenId> ids, bool pinned) {
  const PrefixIndex::Match found = index_.Find(ids);
  if (found.hits.empty() || found.tokens < static_cast<int32_t>(ids.size())) return 0;
  const PrefixIndex::NodeId last = found.hits.back().node;
  if (!pinned && !marks_.IsPinned(last)) return 0;
  pinned ? marks_.Pin(last) : marks_.Unpin(last);
  KeepMarks(last);
  return found.tokens;
}

int32_t DiskCache::SetExpiry(absl::Span<const TokenId> ids, absl::Time at) {
  const PrefixIndex::Match found = index_.Find(ids);
  if (found.hits.empty() || found.tokens < static_cast<int32_t>(ids.size())) return 0;
  marks_.SetExpiry(found.hits.back().node, at);
  for (const PrefixIndex::Hit& hit : found.hits) KeepMarks(hit.node);
  return found.tokens;
}

std::vector<SegmentKey> DiskCache::Purge(absl::Span<const TokenId> ids) {
  std::vector<SegmentKey> purged;
  const PrefixIndex::Match found = index_.FindWhole(ids);
  const bool all = found.tokens == static_cast<int32_t>(ids.size());
  for (auto hit = found.hits.rbegin(); hit != found.hits.rend(); ++hit) {
    const bool own = all && hit == found.hits.rbegin();
    if (!index_.IsLeaf(hit->node) || (marks_.IsPinned(hit->node) && !own)) break;
    purged.push_back(EntryOf(hit->node).key);
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
      dropped.push_back(EntryOf(leaf).key);
      Erase(leaf);
    }
  }
}

void DiskCache::Erase(PrefixIndex::NodeId node) {
  if (!index_.Contains(node) || !index_.IsLeaf(node)) return;
  marks_.Forget(node);
  const auto value = index_.Remove(node);
  const auto number = static_cast<Number>(*value);
  payload_bytes_ -= entries_[number].stored_bytes;
  by_key_.erase(number);
  free_.push_back(number);
}

std::vector<SegmentKey> DiskCache::Forget(const SegmentKey& key) {
  std::vector<SegmentKey> forgotten;
  const Entry* found = Find(key);
  if (found == nullptr) return forgotten;
  const PrefixIndex::NodeId top = found->node;
  // Leaves first: what hangs below `top` cannot be reached without it.
  while (index_.Contains(top)) {
    const auto below = [&](uint64_t value) {
      PrefixIndex::NodeId at = entries_[value].node;
      while (at != PrefixIndex::kRoot && at != top) at = index_.parent(at);
      return at == top;
    };
    const auto leaves = index_.OldestLeaves(index_.size(), below);
    for (const PrefixIndex::NodeId leaf : leaves) {
      forgotten.push_back(EntryOf(leaf).key);
      Erase(leaf);
    }
  }
  return forgotten;
}

void DiskCache::Touch(absl::Span<const SegmentRecord> segments, int64_t now_unix_ms) {
  for (const SegmentRecord& segment : segments) {
    Entry* entry = Find(segment.key);
    if (entry == nullptr) continue;
    ++entry->hit_count;
    Touch(*entry, now_unix_ms);
    used_.insert(segment.key);
  }
}

std::vector<SegmentRecord> DiskCache::TakeUsed() {
  std::vector<SegmentRecord> used;
  for (const SegmentKey& key : used_) {
    const Entry* entry = Find(key);
    if (entry == nullptr) continue;
    SegmentRecord record;
    record.key = entry->key;
    record.identity = identity_;
    record.last_used_unix_ms = entry->last_used_unix_ms;
    record.hit_count = entry->hit_count;
    record.pinned = entry->pinned;
    record.expires_unix_ms = entry->expires_unix_ms;
    used.push_back(std::move(record));
  }
  used_.clear();
  return used;
}

std::vector<SegmentRecord> DiskCache::Chain(absl::Span<const TokenId> ids) const {
  std::vector<SegmentRecord> chain;
  SegmentKey parent = identity_;
  for (size_t at = 0; at < ids.size(); at += kSegmentTokens) {
    const absl::Span<const TokenId> slice = ids.subspan(at, kSegmentTokens);
    SegmentRecord& record = chain.emplace_back();
    record.kind = slice.size() == kSegmentTokens ? SegmentKind::kFull : SegmentKind::kTail;
    record.parent = parent;
    record.key = ComputeSegmentKey(record.kind, parent, slice);
    record.identity = identity_;
    record.start_position = static_cast<int32_t>(at);
    record.ids.assign(slice.begin(), slice.end());
    parent = record.key;
  }
  return chain;
}

std::vector<SegmentRecord> DiskCache::Missing(absl::Span<const TokenId> ids) const {
  if (index_.Find(ids).tokens == static_cast<int32_t>(ids.size())) return {};
  std::vector<SegmentRecord> missing = Chain(ids);
  std::erase_if(missing, [this](const SegmentRecord& record) {
    return by_key_.contains(record.key) || writing_.contains(record.key);
  });
  return missing;
}

bool DiskCache::IsWriting(absl::Span<const TokenId> ids) const {
  if (writing_.empty()) return false;
  const std::vector<SegmentRecord> chain = Chain(ids);
  return std::any_of(chain.begin(), chain.end(),
                     [this](const SegmentRecord& record) { return writing_.contains(record.key); });
}

std::vector<SegmentKey> DiskCache::EvictPast(int64_t max_bytes,
                                             absl::Span<const PrefixIndex::NodeId> kept) {
  std::vector<SegmentKey> evicted;
  const absl::flat_hash_set<PrefixIndex::NodeId> stay(kept.begin(), kept.end());
  while (payload_bytes_ > max_bytes) {
    const auto may_go = [&](uint64_t value) {
      const PrefixIndex::NodeId node = entries_[value].node;
      return !marks_.IsPinned(node) && !stay.contains(node);
    };
    const auto leaves = index_.OldestLeaves(1, may_go);
    if (leaves.empty()) break;
    evicted.push_back(EntryOf(leaves[0]).key);
    Erase(leaves[0]);
  }
  return evicted;
}

}  // namespace reprise
