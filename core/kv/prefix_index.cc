#include "core/kv/prefix_index.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace reprise {
namespace {

using Ids = absl::Span<const TokenId>;

struct LexicographicLess {
  bool operator()(Ids a, Ids b) const {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
  }
};

size_t CommonPrefix(Ids a, Ids b) {
  const size_t limit = std::min(a.size(), b.size());
  size_t common = 0;
  while (common < limit && a[common] == b[common]) ++common;
  return common;
}

// A child is keyed by a view of the ids it owns.
using Children = std::map<Ids, PrefixIndex::NodeId, LexicographicLess>;

// The child sharing the longest beginning with `query`. In lexicographic order
// no child shares more than the two between which the query would stand.
Children::const_iterator BestChild(const Children& children, Ids query) {
  const auto after = children.lower_bound(query);
  if (after == children.begin()) return after;
  const auto before = std::prev(after);
  if (after == children.end()) return before;
  return CommonPrefix(after->first, query) >= CommonPrefix(before->first, query) ? after : before;
}

}  // namespace

struct PrefixIndex::Node {
  NodeId parent = kRoot;
  uint64_t value = 0;
  uint64_t tick = 0;
  std::vector<TokenId> ids;  // its buffer stays put when the node moves
  Children children;
};

struct PrefixIndex::State {
  size_t node_tokens = 0;
  NodeId next_id = kRoot + 1;
  int64_t total_tokens = 0;
  absl::flat_hash_map<NodeId, Node> nodes;  // the root included
  std::set<std::pair<uint64_t, NodeId>> leaves_by_age;
};

PrefixIndex::PrefixIndex(int32_t node_tokens) : state_(std::make_unique<State>()) {
  assert(node_tokens > 0);
  state_->node_tokens = static_cast<size_t>(node_tokens);
  state_->nodes.try_emplace(kRoot);
}

PrefixIndex::~PrefixIndex() = default;

PrefixIndex::Match PrefixIndex::Find(Ids ids) const {
  Match match;
  NodeId at = kRoot;
  for (Ids rest = ids; !rest.empty();) {
    const Children& children = state_->nodes.at(at).children;
    const Ids query = rest.subspan(0, state_->node_tokens);
    const auto best = BestChild(children, query);
    if (best == children.end()) break;
    const size_t common = CommonPrefix(best->first, query);
    if (common == 0) break;
    at = best->second;
    match.hits.push_back({at, value(at), static_cast<int32_t>(common)});
    match.tokens += static_cast<int32_t>(common);
    if (common < state_->node_tokens) break;
    rest.remove_prefix(common);
  }
  return match;
}

std::optional<PrefixIndex::NodeId> PrefixIndex::FindChild(NodeId parent, Ids ids) const {
  const Children& children = state_->nodes.at(parent).children;
  const auto found = children.find(ids);
  if (found == children.end()) return std::nullopt;
  return found->second;
}

std::optional<PrefixIndex::NodeId> PrefixIndex::FindShorterLeaf(NodeId parent, Ids ids) const {
  const Children& children = state_->nodes.at(parent).children;
  const auto after = children.lower_bound(ids);  // a proper beginning stands before it
  if (after == children.begin()) return std::nullopt;
  const auto& [held, node] = *std::prev(after);
  if (CommonPrefix(held, ids) < held.size() || !IsLeaf(node)) return std::nullopt;
  return node;
}

PrefixIndex::Inserted PrefixIndex::Insert(NodeId parent, Ids ids, uint64_t value) {
  assert(!ids.empty() && ids.size() <= state_->node_tokens);
  assert(parent == kRoot || this->ids(parent).size() == state_->node_tokens);
  if (const auto existing = FindChild(parent, ids)) return {*existing, false};

  const NodeId id = state_->next_id++;
  if (parent != kRoot) state_->leaves_by_age.erase({state_->nodes.at(parent).tick, parent});
  Node& node = state_->nodes[id];
  node.parent = parent;
  node.value = value;
  node.ids.assign(ids.begin(), ids.end());
  const Ids key = node.ids;
  state_->nodes.at(parent).children.emplace(key, id);
  state_->leaves_by_age.emplace(0, id);
  state_->total_tokens += static_cast<int64_t>(ids.size());
  return {id, true};
}

std::optional<uint64_t> PrefixIndex::Remove(NodeId node) {
  if (node == kRoot) return std::nullopt;
  const auto found = state_->nodes.find(node);
  if (found == state_->nodes.end() || !found->second.children.empty()) return std::nullopt;
  const Node removed = std::move(found->second);
  state_->nodes.erase(found);
  state_->leaves_by_age.erase({removed.tick, node});
  state_->total_tokens -= static_cast<int64_t>(removed.ids.size());

  Node& parent = state_->nodes.at(removed.parent);
  parent.children.erase(Ids(removed.ids));
  if (removed.parent != kRoot && parent.children.empty()) {
    state_->leaves_by_age.emplace(parent.tick, removed.parent);
  }
  return removed.value;
}

uint64_t PrefixIndex::value(NodeId node) const { return state_->nodes.at(node).value; }

PrefixIndex::NodeId PrefixIndex::parent(NodeId node) const { return state_->nodes.at(node).parent; }

Ids PrefixIndex::ids(NodeId node) const { return state_->nodes.at(node).ids; }

bool PrefixIndex::Contains(NodeId node) const { return state_->nodes.contains(node); }

bool PrefixIndex::IsLeaf(NodeId node) const { return state_->nodes.at(node).children.empty(); }

size_t PrefixIndex::num_children(NodeId node) const {
  return state_->nodes.at(node).children.size();
}

void PrefixIndex::Touch(NodeId node, uint64_t tick) {
  Node& touched = state_->nodes.at(node);
  if (state_->leaves_by_age.erase({touched.tick, node}) > 0) {
    state_->leaves_by_age.emplace(tick, node);
  }
  touched.tick = tick;
}

void PrefixIndex::VisitLeavesByAge(absl::FunctionRef<bool(NodeId)> visit) const {
  for (const auto& [tick, node] : state_->leaves_by_age) {
    if (!visit(node)) return;
  }
}

void PrefixIndex::VisitLeavesNewestFirst(std::optional<Place> below,
                                         absl::FunctionRef<bool(const Place&)> visit) const {
  auto at = below ? state_->leaves_by_age.lower_bound({below->tick, below->node})
                  : state_->leaves_by_age.end();
  while (at != state_->leaves_by_age.begin()) {
    --at;
    if (!visit({at->first, at->second})) return;
  }
}

std::vector<TokenId> PrefixIndex::PathIds(NodeId node) const {
  std::vector<NodeId> path;
  for (NodeId at = node; at != kRoot; at = parent(at)) path.push_back(at);
  std::vector<TokenId> path_ids;
  for (auto at = path.rbegin(); at != path.rend(); ++at) {
    path_ids.insert(path_ids.end(), ids(*at).begin(), ids(*at).end());
  }
  return path_ids;
}

size_t PrefixIndex::size() const { return state_->nodes.size() - 1; }

int64_t PrefixIndex::total_tokens() const { return state_->total_tokens; }

}  // namespace reprise
