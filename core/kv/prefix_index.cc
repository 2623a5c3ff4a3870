#include "core/kv/prefix_index.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "absl/container/btree_set.h"

namespace reprise {
namespace {

using Ids = absl::Span<const TokenId>;
using Slot = uint32_t;  // of a node; reused

constexpr Slot kRootSlot = 0;
constexpr Slot kNoSlot = std::numeric_limits<Slot>::max();
constexpr size_t kChunkNodes = 4096;  // whose ids lie together

size_t CommonPrefix(Ids a, Ids b) {
  const size_t limit = std::min(a.size(), b.size());
  size_t common = 0;
  while (common < limit && a[common] == b[common]) ++common;
  return common;
}

bool Less(Ids a, Ids b) {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
}

// Orders as the first two ids do; what is not there is less than any id.
uint64_t FirstIds(Ids ids) {
  const auto ordered = [&](size_t i) -> uint64_t {
    return i < ids.size() ? static_cast<uint32_t>(ids[i]) ^ 0x80000000u : 0;
  };
  return ordered(0) << 32 | ordered(1);
}

// A child, or a place to look for. The ids are followed only where the first two are equal.
struct Child {
  uint64_t first_ids = 0;
  const TokenId* ids = nullptr;
  uint32_t count = 0;
  Slot slot = kNoSlot;

  Ids span() const { return {ids, count}; }
};

Child ToChild(Ids ids, Slot slot = kNoSlot) {
  return {FirstIds(ids), ids.data(), static_cast<uint32_t>(ids.size()), slot};
}

struct ChildLess {
  bool operator()(const Child& a, const Child& b) const {
    return a.first_ids != b.first_ids ? a.first_ids < b.first_ids : Less(a.span(), b.span());
  }
};

using Children = absl::btree_set<Child, ChildLess>;

}  // namespace

// A node with one child, as most have, names it; one with more has a set of them.
struct PrefixIndex::Node {
  Slot parent = kRootSlot;
  uint32_t generation = 0;  // of the slot: tells a node from those that had it before
  uint32_t count = 0;       // ids; 0: the slot is free, the root's apart
  Slot only_child = kNoSlot;
  uint64_t value = 0;
  uint64_t tick = 0;
  std::unique_ptr<Children> children;
};

struct PrefixIndex::State {
  size_t node_tokens = 0;
  int64_t total_tokens = 0;
  std::vector<Node> nodes;                      // by slot; the root is the first
  std::vector<std::unique_ptr<TokenId[]>> ids;  // chunks of kChunkNodes; a node's stay put
  std::vector<Slot> free;
  // The leaves in order of age, from the first time that somebody asks for it: to keep it
  // while an index is filled takes longer than to make it once.
  bool ordered = false;
  absl::btree_set<std::pair<uint64_t, NodeId>> leaves_by_age;

  NodeId IdOf(Slot slot) const { return uint64_t{nodes[slot].generation} << 32 | slot; }
  static Slot SlotOf(NodeId node) { return static_cast<Slot>(node); }
  TokenId* IdsAt(Slot slot) const {
    return &ids[slot / kChunkNodes][slot % kChunkNodes * node_tokens];
  }
  Ids IdsOf(Slot slot) const { return {IdsAt(slot), nodes[slot].count}; }
  bool IsLeaf(Slot slot) const {
    return nodes[slot].only_child == kNoSlot && nodes[slot].children == nullptr;
  }

  void AddLeaf(Slot slot) {
    if (ordered && slot != kRootSlot) leaves_by_age.emplace(nodes[slot].tick, IdOf(slot));
  }
  void RemoveLeaf(Slot slot) {
    if (ordered) leaves_by_age.erase({nodes[slot].tick, IdOf(slot)});
  }
  void Order();
  Slot TakeSlot();
  void AddChild(Slot parent, Slot child);
  void RemoveChild(Slot parent, Slot child);
  Slot BestChild(Slot parent, Ids query) const;
  Slot ExactChild(Slot parent, Ids query) const;
  Slot ChildBefore(Slot parent, Ids query) const;
};

void PrefixIndex::State::Order() {
  std::vector<std::pair<uint64_t, NodeId>> leaves;
  for (Slot slot = 1; slot < nodes.size(); ++slot) {
    if (nodes[slot].count > 0 && IsLeaf(slot)) leaves.emplace_back(nodes[slot].tick, IdOf(slot));
  }
  std::sort(leaves.begin(), leaves.end());
  leaves_by_age = {leaves.begin(), leaves.end()};
  ordered = true;
}

Slot PrefixIndex::State::TakeSlot() {
  if (!free.empty()) {
    const Slot slot = free.back();
    free.pop_back();
    return slot;
  }
  const auto slot = static_cast<Slot>(nodes.size());
  nodes.emplace_back();
  if (slot / kChunkNodes == ids.size()) {
    ids.emplace_back(new TokenId[kChunkNodes * node_tokens]);  // not cleared: a node's count says
  }
  return slot;
}

void PrefixIndex::State::AddChild(Slot parent, Slot child) {
  Node& node = nodes[parent];
  if (IsLeaf(parent)) {
    RemoveLeaf(parent);
    node.only_child = child;
    return;
  }
  if (node.children == nullptr) {
    node.children = std::make_unique<Children>();
    node.children->insert(ToChild(IdsOf(node.only_child), node.only_child));
    node.only_child = kNoSlot;
  }
  node.children->insert(ToChild(IdsOf(child), child));
}

void PrefixIndex::State::RemoveChild(Slot parent, Slot child) {
  Node& node = nodes[parent];
  if (node.children != nullptr) {
    node.children->erase(ToChild(IdsOf(child)));
    if (node.children->size() > 1) return;
    node.only_child = node.children->begin()->slot;
    node.children = nullptr;
    return;
  }
  node.only_child = kNoSlot;
  AddLeaf(parent);
}

// The child sharing the longest beginning with `query`. In lexicographic order
// no child shares more than the two between which the query would stand.
Slot PrefixIndex::State::BestChild(Slot parent, Ids query) const {
  const Node& node = nodes[parent];
  if (node.children == nullptr) return node.only_child;
  const auto after = node.children->lower_bound(ToChild(query));
  if (after == node.children->begin()) return after->slot;
  const auto before = std::prev(after);
  if (after == node.children->end()) return before->slot;
  const bool later = CommonPrefix(after->span(), query) >= CommonPrefix(before->span(), query);
  return later ? after->slot : before->slot;
}

Slot PrefixIndex::State::ExactChild(Slot parent, Ids query) const {
  const Slot best = BestChild(parent, query);
  return best != kNoSlot && IdsOf(best) == query ? best : kNoSlot;
}

// The last child before `query` in lexicographic order.
Slot PrefixIndex::State::ChildBefore(Slot parent, Ids query) const {
  const Node& node = nodes[parent];
  if (node.children == nullptr) {
    const Slot only = node.only_child;
    return only != kNoSlot && Less(IdsOf(only), query) ? only : kNoSlot;
  }
  const auto after = node.children->lower_bound(ToChild(query));
  return after == node.children->begin() ? kNoSlot : std::prev(after)->slot;
}

PrefixIndex::PrefixIndex(int32_t node_tokens) : state_(std::make_unique<State>()) {
  assert(node_tokens > 0);
  state_->node_tokens = static_cast<size_t>(node_tokens);
  state_->TakeSlot();  // the root's
}

PrefixIndex::~PrefixIndex() = default;

void PrefixIndex::Reserve(size_t nodes) { state_->nodes.reserve(nodes + 1); }

PrefixIndex::Match PrefixIndex::Find(Ids ids) const {
  Match match;
  Slot at = kRootSlot;
  for (Ids rest = ids; !rest.empty();) {
    const Ids query = rest.subspan(0, state_->node_tokens);
    const Slot best = state_->BestChild(at, query);
    if (best == kNoSlot) break;
    const size_t common = CommonPrefix(state_->IdsOf(best), query);
    if (common == 0) break;
    at = best;
    match.hits.push_back({state_->IdOf(at), state_->nodes[at].value, static_cast<int32_t>(common)});
    match.tokens += static_cast<int32_t>(common);
    if (common < state_->node_tokens) break;
    rest.remove_prefix(common);
  }
  return match;
}

PrefixIndex::Match PrefixIndex::FindWhole(Ids ids) const {
  Match match = Find(ids);
  if (match.hits.empty()) return match;
  const Hit last = match.hits.back();
  if (static_cast<size_t>(last.tokens) == this->ids(last.node).size()) return match;
  match.tokens -= last.tokens;
  match.hits.pop_back();
  return match;
}

std::optional<PrefixIndex::NodeId> PrefixIndex::FindChild(NodeId parent, Ids ids) const {
  const Slot found = state_->ExactChild(State::SlotOf(parent), ids);
  if (found == kNoSlot) return std::nullopt;
  return state_->IdOf(found);
}

std::optional<PrefixIndex::NodeId> PrefixIndex::FindShorterLeaf(NodeId parent, Ids ids) const {
  // A proper beginning stands before it.
  const Slot before = state_->ChildBefore(State::SlotOf(parent), ids);
  if (before == kNoSlot) return std::nullopt;
  const Ids held = state_->IdsOf(before);
  if (CommonPrefix(held, ids) < held.size() || !state_->IsLeaf(before)) return std::nullopt;
  return state_->IdOf(before);
}

PrefixIndex::Inserted PrefixIndex::Insert(NodeId parent, Ids ids, uint64_t value) {
  assert(!ids.empty() && ids.size() <= state_->node_tokens);
  assert(parent == kRoot || this->ids(parent).size() == state_->node_tokens);
  if (const auto existing = FindChild(parent, ids)) return {*existing, false};

  const Slot slot = state_->TakeSlot();
  Node& node = state_->nodes[slot];
  node.parent = State::SlotOf(parent);
  node.value = value;
  node.tick = 0;
  node.count = static_cast<uint32_t>(ids.size());
  std::copy(ids.begin(), ids.end(), state_->IdsAt(slot));
  state_->AddChild(node.parent, slot);
  state_->AddLeaf(slot);
  state_->total_tokens += static_cast<int64_t>(ids.size());
  return {state_->IdOf(slot), true};
}

std::optional<uint64_t> PrefixIndex::Remove(NodeId node) {
  if (node == kRoot || !Contains(node)) return std::nullopt;
  const Slot slot = State::SlotOf(node);
  if (!state_->IsLeaf(slot)) return std::nullopt;
  Node& removed = state_->nodes[slot];
  state_->RemoveLeaf(slot);
  state_->RemoveChild(removed.parent, slot);
  state_->total_tokens -= removed.count;
  removed.count = 0;
  ++removed.generation;
  state_->free.push_back(slot);
  return removed.value;
}

uint64_t PrefixIndex::value(NodeId node) const { return state_->nodes[State::SlotOf(node)].value; }

PrefixIndex::NodeId PrefixIndex::parent(NodeId node) const {
  return state_->IdOf(state_->nodes[State::SlotOf(node)].parent);
}

Ids PrefixIndex::ids(NodeId node) const { return state_->IdsOf(State::SlotOf(node)); }

bool PrefixIndex::Contains(NodeId node) const {
  const Slot slot = State::SlotOf(node);
  return slot < state_->nodes.size() && state_->IdOf(slot) == node &&
         (slot == kRootSlot || state_->nodes[slot].count > 0);
}

bool PrefixIndex::IsLeaf(NodeId node) const { return state_->IsLeaf(State::SlotOf(node)); }

size_t PrefixIndex::num_children(NodeId node) const {
  const Node& parent = state_->nodes[State::SlotOf(node)];
  if (parent.children != nullptr) return parent.children->size();
  return parent.only_child == kNoSlot ? 0 : 1;
}

void PrefixIndex::Touch(NodeId node, uint64_t tick) {
  const Slot slot = State::SlotOf(node);
  const bool is_leaf = state_->IsLeaf(slot);
  if (is_leaf) state_->RemoveLeaf(slot);
  state_->nodes[slot].tick = tick;
  if (is_leaf) state_->AddLeaf(slot);
}

void PrefixIndex::VisitLeavesByAge(absl::FunctionRef<bool(NodeId)> visit) const {
  if (!state_->ordered) state_->Order();
  for (const auto& [tick, node] : state_->leaves_by_age) {
    if (!visit(node)) return;
  }
}

void PrefixIndex::VisitLeavesNewestFirst(std::optional<Place> below,
                                         absl::FunctionRef<bool(const Place&)> visit) const {
  if (!state_->ordered) state_->Order();
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

size_t PrefixIndex::size() const { return state_->nodes.size() - 1 - state_->free.size(); }

int64_t PrefixIndex::total_tokens() const { return state_->total_tokens; }

}  // namespace reprise
