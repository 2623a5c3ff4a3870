// PrefixIndex finds, token for token, the longest cached prefix of a prompt.
//
// A radix tree whose edges are nodes of `node_tokens` ids (16 for blocks in
// memory, 64 for durable segments); only a leaf may hold fewer. Each node
// carries the caller's 64-bit value (a BlockId, a segment's record number). Ids
// are kept and compared: nothing is hashed, nothing is trusted.
//
// Children of a node are ordered by their ids, so the child that shares the
// longest beginning with the query is a neighbour of the query's place.
//
// Memory     of a node: 48 bytes, 4 of each id it could hold, 32 where it has siblings, and
//            22 as a leaf once something was evicted.
// Threading  not thread-safe; the engine thread owns it.
// Source     radix tree over token spans: Zheng et al. 2023, arXiv 2312.07104.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "core/base/ids.h"

namespace reprise {

class PrefixIndex {
 public:
  using NodeId = uint64_t;  // never reused
  static constexpr NodeId kRoot = 0;

  struct Hit {
    NodeId node = 0;
    uint64_t value = 0;
    int32_t tokens = 0;  // usable from this node, 1..node's token count
  };

  struct Match {
    std::vector<Hit> hits;  // from the front; all but the last are whole nodes
    int32_t tokens = 0;     // sum over hits
  };

  explicit PrefixIndex(int32_t node_tokens);
  ~PrefixIndex();

  // Room for so many nodes in all, so that they need not move while they are added.
  void Reserve(size_t nodes);

  // The longest prefix of `ids` in the tree; does not change recency.
  Match Find(absl::Span<const TokenId> ids) const;

  // As Find, without a last node of which `ids` have only a part: it is of what goes on otherwise.
  Match FindWhole(absl::Span<const TokenId> ids) const;

  // The child of `parent` (kRoot or a full node) holding exactly `ids`, if any.
  std::optional<NodeId> FindChild(NodeId parent, absl::Span<const TokenId> ids) const;

  // The leaf under `parent` that holds a proper beginning of `ids`, if any.
  std::optional<NodeId> FindShorterLeaf(NodeId parent, absl::Span<const TokenId> ids) const;

  // Adds a child to kRoot or a full node; 1 <= ids.size() <= node_tokens. A child with the same ids
  // is kept and its id returned with `inserted` false (the value is not replaced).
  struct Inserted {
    NodeId node = 0;
    bool inserted = false;
  };
  Inserted Insert(NodeId parent, absl::Span<const TokenId> ids, uint64_t value);

  // Removes a leaf and returns its value. A node with children stays (nullopt).
  std::optional<uint64_t> Remove(NodeId node);

  uint64_t value(NodeId node) const;
  NodeId parent(NodeId node) const;
  absl::Span<const TokenId> ids(NodeId node) const;
  bool Contains(NodeId node) const;
  bool IsLeaf(NodeId node) const;
  size_t num_children(NodeId node) const;

  // Marks a node as used at logical time `tick`; a new node counts as used at 0.
  void Touch(NodeId node, uint64_t tick);

  // Leaves, least recently used first, at most `limit`; `accept` filters by value.
  template <typename Accept>
  std::vector<NodeId> OldestLeaves(size_t limit, Accept accept) const {
    std::vector<NodeId> found;
    if (limit == 0) return found;
    VisitLeavesByAge([&](NodeId node) {
      if (accept(value(node))) found.push_back(node);
      return found.size() < limit;
    });
    return found;
  }

  // Leaves, most recently used first, from below `below` (all without one), until `visit` says
  // false. A place in that order, to go on from later: what is used meanwhile moves up.
  struct Place {
    uint64_t tick = 0;
    NodeId node = 0;
  };
  void VisitLeavesNewestFirst(std::optional<Place> below,
                              absl::FunctionRef<bool(const Place&)> visit) const;

  // The ids from the root to the end of `node`.
  std::vector<TokenId> PathIds(NodeId node) const;

  size_t size() const;           // nodes, the root apart
  int64_t total_tokens() const;  // ids in all nodes

 private:
  struct Node;
  struct State;
  void VisitLeavesByAge(absl::FunctionRef<bool(NodeId)> visit) const;  // until false
  std::unique_ptr<State> state_;
};

}  // namespace reprise
