#include "core/kv/entry_marks.h"

namespace reprise {

bool EntryMarks::IsPathPinned(NodeId node) const {
  if (pinned_.empty()) return false;
  while (node != PrefixIndex::kRoot && !IsPinned(node)) node = index_->parent(node);
  return node != PrefixIndex::kRoot;
}

int EntryMarks::SetExpiry(NodeId node, absl::Time at, int most) {
  int count = 0;
  do {
    SetExpiryOfOne(node, at);
    ++count;
    node = index_->parent(node);
  } while (count < most && node != PrefixIndex::kRoot && index_->num_children(node) == 1 &&
           !IsPinned(node));
  return count;
}

void EntryMarks::SetExpiryOfOne(NodeId node, absl::Time at) {
  const auto known = expiries_.find(node);
  if (known != expiries_.end()) {
    by_expiry_.erase({known->second, node});
    waiting_.erase(node);
    expiries_.erase(known);
  }
  if (at == absl::InfiniteFuture()) return;
  expiries_[node] = at;
  by_expiry_.emplace(at, node);
}

absl::Time EntryMarks::ExpiryOf(NodeId node) const {
  const auto known = expiries_.find(node);
  return known == expiries_.end() ? absl::InfiniteFuture() : known->second;
}

std::vector<PrefixIndex::NodeId> EntryMarks::ExpiredLeaves(absl::Time now,
                                                           absl::FunctionRef<bool(NodeId)> keep) {
  std::vector<NodeId> expired;
  for (auto at = by_expiry_.begin(); at != by_expiry_.end() && at->first <= now;) {
    const NodeId node = at->second;
    if (!index_->IsLeaf(node) || IsPinned(node)) {
      waiting_.insert(node);
      at = by_expiry_.erase(at);
      continue;
    }
    if (!keep(node)) expired.push_back(node);
    ++at;
  }
  return expired;
}

void EntryMarks::LookAgainAt(NodeId node) {
  if (waiting_.erase(node) > 0) by_expiry_.emplace(expiries_[node], node);
}

bool EntryMarks::Unpin(NodeId node) {
  LookAgainAt(node);
  return pinned_.erase(node) > 0;
}

void EntryMarks::Forget(NodeId node) {
  LookAgainAt(index_->parent(node));
  pinned_.erase(node);
  SetExpiryOfOne(node, absl::InfiniteFuture());
}

void EntryMarks::Inherit(NodeId from, NodeId to) {
  if (pinned_.contains(from)) pinned_.insert(to);
  const absl::Time at = ExpiryOf(from);
  Forget(from);
  if (at != absl::InfiniteFuture()) SetExpiryOfOne(to, at);
}

}  // namespace reprise
