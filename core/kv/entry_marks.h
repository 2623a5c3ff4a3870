// EntryMarks: what an operator asked of cached entries, by the nodes of a prefix
// index: pins, which keep a node and all before it, and expiries.
//
// A pin is one mark on the entry's last node: leaves go first, so what comes
// before it stays too. An expiry is set on the nodes that only this entry
// reaches; a node that has expired goes as soon as nothing hangs below it.
//
// Threading  not thread-safe; who owns the index owns its marks.
#pragma once

#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "core/kv/prefix_index.h"

namespace reprise {

class EntryMarks {
 public:
  using NodeId = PrefixIndex::NodeId;

  explicit EntryMarks(const PrefixIndex* index) : index_(index) {}

  // False: it was pinned already, or it was not.
  bool Pin(NodeId node) { return pinned_.insert(node).second; }
  bool Unpin(NodeId node);
  bool IsPinned(NodeId node) const { return pinned_.contains(node); }
  size_t num_pinned() const { return pinned_.size(); }
  bool empty() const { return pinned_.empty() && expiries_.empty(); }

  // Whether `node` or one that leads to it is.
  bool IsPathPinned(NodeId node) const;

  // When `node`, and what comes before it and nothing else hangs from, at most `most` nodes,
  // expires; absl::InfiniteFuture() takes their expiries back. How many nodes that are.
  int SetExpiry(NodeId node, absl::Time at, int most = std::numeric_limits<int>::max());
  void SetExpiryOfOne(NodeId node, absl::Time at);
  absl::Time ExpiryOf(NodeId node) const;

  // Leaves that are neither pinned nor to be kept for another moment by `keep`, and that
  // expired by `now`. Removing them may bring forth more. What cannot go yet is not looked at
  // again until it is unpinned or a node below it goes.
  std::vector<NodeId> ExpiredLeaves(absl::Time now, absl::FunctionRef<bool(NodeId)> keep);

  // Just before a node is removed: it then has no marks. One that took its place inherits them.
  void Forget(NodeId node);
  void Inherit(NodeId from, NodeId to);

 private:
  void LookAgainAt(NodeId node);

  const PrefixIndex* index_;
  absl::flat_hash_set<NodeId> pinned_;
  absl::flat_hash_map<NodeId, absl::Time> expiries_;
  std::set<std::pair<absl::Time, NodeId>> by_expiry_;  // without those that wait
  absl::flat_hash_set<NodeId> waiting_;                // expired, but pinned or with nodes below
};

}  // namespace reprise
