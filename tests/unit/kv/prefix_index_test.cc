#include "core/kv/prefix_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace reprise {
namespace {

using Ids = std::vector<TokenId>;
using NodeId = PrefixIndex::NodeId;

constexpr auto kAll = [](uint64_t) { return true; };

// Inserts `ids` as a chain and returns its nodes from the front.
std::vector<NodeId> InsertChain(PrefixIndex& index, const Ids& ids, size_t node_tokens,
                                uint64_t value) {
  std::vector<NodeId> chain;
  NodeId parent = PrefixIndex::kRoot;
  for (size_t at = 0; at < ids.size(); at += node_tokens) {
    const size_t count = std::min(node_tokens, ids.size() - at);
    parent = index.Insert(parent, absl::MakeConstSpan(ids).subspan(at, count), value).node;
    chain.push_back(parent);
  }
  return chain;
}

TEST(PrefixIndexTest, AnEmptyTreeAndAnEmptyPromptMatchNothing) {
  PrefixIndex index(4);
  EXPECT_EQ(index.Find({1, 2, 3}).tokens, 0);
  InsertChain(index, {1, 2, 3}, 4, 1);
  EXPECT_TRUE(index.Find({}).hits.empty());
  EXPECT_EQ(index.Find({2, 1}).tokens, 0);
}

TEST(PrefixIndexTest, FindsWholeNodesThenTheUsablePartOfTheLast) {
  PrefixIndex index(4);
  const auto chain = InsertChain(index, {1, 2, 3, 4, 5, 6, 7, 8, 9}, 4, 11);
  const auto match = index.Find({1, 2, 3, 4, 5, 6, 9, 9, 9});
  ASSERT_EQ(match.hits.size(), 2u);
  EXPECT_EQ(match.tokens, 6);
  EXPECT_EQ(match.hits[0].node, chain[0]);
  EXPECT_EQ(match.hits[0].tokens, 4);
  EXPECT_EQ(match.hits[1].node, chain[1]);
  EXPECT_EQ(match.hits[1].tokens, 2);
  EXPECT_EQ(match.hits[1].value, 11u);
}

TEST(PrefixIndexTest, PrefersTheChildThatSharesMore) {
  PrefixIndex index(4);
  index.Insert(PrefixIndex::kRoot, {1, 2}, 1);
  const auto deep = index.Insert(PrefixIndex::kRoot, {1, 2, 3, 9}, 2);
  index.Insert(PrefixIndex::kRoot, {1, 3, 0, 0}, 3);
  const auto match = index.Find({1, 2, 3, 4, 5});
  ASSERT_EQ(match.hits.size(), 1u);
  EXPECT_EQ(match.hits[0].node, deep.node);
  EXPECT_EQ(match.tokens, 3);
}

TEST(PrefixIndexTest, KeepsTheFirstValueOfTheSameIds) {
  PrefixIndex index(4);
  const auto first = index.Insert(PrefixIndex::kRoot, {1, 2, 3, 4}, 7);
  const auto second = index.Insert(PrefixIndex::kRoot, {1, 2, 3, 4}, 8);
  EXPECT_TRUE(first.inserted);
  EXPECT_FALSE(second.inserted);
  EXPECT_EQ(second.node, first.node);
  EXPECT_EQ(index.value(first.node), 7u);
  EXPECT_EQ(index.size(), 1u);
  EXPECT_EQ(index.total_tokens(), 4);
}

TEST(PrefixIndexTest, FindsTheLeafThatALongerEntrySupersedes) {
  PrefixIndex index(4);
  const NodeId whole = InsertChain(index, {1, 2, 3, 4}, 4, 7)[0];
  const NodeId shorter = index.Insert(whole, {5, 6}, 8).node;
  const NodeId aside = index.Insert(whole, {5, 7, 8}, 9).node;
  struct Case {
    const char* name;
    NodeId parent;
    Ids ids;
    std::optional<NodeId> found;
  };
  const Case cases[] = {
      {"longer by one", whole, {5, 6, 7}, shorter},
      {"full", whole, {5, 7, 8, 0}, aside},
      {"the same ids", whole, {5, 6}, std::nullopt},
      {"a beginning of it", whole, {5}, std::nullopt},
      {"parts inside it", whole, {5, 7, 9, 1}, std::nullopt},
      {"comes before all", whole, {4, 6, 7}, std::nullopt},
      {"under another parent", PrefixIndex::kRoot, {5, 6, 7}, std::nullopt},
      {"no child", shorter, {1}, std::nullopt},
      {"not a leaf", PrefixIndex::kRoot, {1, 2, 3, 4}, std::nullopt},
  };
  for (const Case& c : cases) EXPECT_EQ(index.FindShorterLeaf(c.parent, c.ids), c.found) << c.name;
}

TEST(PrefixIndexTest, FindChildIsExact) {
  PrefixIndex index(4);
  const auto node = index.Insert(PrefixIndex::kRoot, {1, 2, 3}, 7);
  EXPECT_EQ(index.FindChild(PrefixIndex::kRoot, {1, 2, 3}), node.node);
  EXPECT_EQ(index.FindChild(PrefixIndex::kRoot, {1, 2}), std::nullopt);
  EXPECT_EQ(index.FindChild(PrefixIndex::kRoot, {1, 2, 3, 4}), std::nullopt);
  EXPECT_EQ(index.parent(node.node), PrefixIndex::kRoot);
}

TEST(PrefixIndexTest, RemovesLeavesOnlyAndNeverReusesIds) {
  PrefixIndex index(2);
  const auto chain = InsertChain(index, {1, 2, 3, 4}, 2, 5);
  EXPECT_EQ(index.Remove(chain[0]), std::nullopt);
  EXPECT_EQ(index.Remove(PrefixIndex::kRoot), std::nullopt);
  EXPECT_EQ(index.Remove(chain[1]), 5u);
  EXPECT_FALSE(index.Contains(chain[1]));
  EXPECT_EQ(index.Remove(chain[1]), std::nullopt);
  EXPECT_TRUE(index.IsLeaf(chain[0]));
  EXPECT_GT(index.Insert(chain[0], {3, 4}, 6).node, chain[1]);
}

TEST(PrefixIndexTest, ListsLeavesOldestFirst) {
  PrefixIndex index(2);
  const NodeId a = index.Insert(PrefixIndex::kRoot, {1, 1}, 1).node;
  const NodeId b = index.Insert(PrefixIndex::kRoot, {2, 2}, 2).node;
  const NodeId c = index.Insert(a, {3, 3}, 3).node;
  index.Touch(a, 1);
  index.Touch(b, 9);
  index.Touch(c, 10);
  EXPECT_EQ(index.OldestLeaves(9, kAll), (std::vector<NodeId>{b, c}));
  index.Touch(b, 11);
  EXPECT_EQ(index.OldestLeaves(9, kAll), (std::vector<NodeId>{c, b}));
  EXPECT_EQ(index.OldestLeaves(1, kAll), (std::vector<NodeId>{c}));
  EXPECT_TRUE(index.OldestLeaves(0, kAll).empty());
  EXPECT_EQ(index.OldestLeaves(9, [](uint64_t value) { return value == 2; }),
            (std::vector<NodeId>{b}));
  index.Remove(c);
  EXPECT_EQ(index.OldestLeaves(9, kAll), (std::vector<NodeId>{a, b}));
}

// The oracle: every stored path from the root as a plain list of ids.
class Oracle {
 public:
  explicit Oracle(size_t node_tokens) : node_tokens_(node_tokens) {}

  struct Entry {
    Ids path;  // from the root
    NodeId parent = PrefixIndex::kRoot;
    uint64_t tick = 0;
    uint64_t value = 0;
  };

  // The most ids any stored path shares with `ids` from the front.
  int32_t LongestPrefix(const Ids& ids) const {
    size_t best = 0;
    for (const auto& [node, entry] : entries) {
      size_t common = 0;
      while (common < std::min(entry.path.size(), ids.size()) && entry.path[common] == ids[common])
        ++common;
      best = std::max(best, common);
    }
    return static_cast<int32_t>(best);
  }

  bool IsLeaf(NodeId node) const {
    return std::none_of(entries.begin(), entries.end(),
                        [node](const auto& other) { return other.second.parent == node; });
  }

  std::vector<NodeId> LeavesByAge() const {
    std::vector<NodeId> leaves;
    for (const auto& [node, entry] : entries) {
      if (IsLeaf(node)) leaves.push_back(node);
    }
    std::stable_sort(leaves.begin(), leaves.end(), [this](NodeId a, NodeId b) {
      return entries.at(a).tick < entries.at(b).tick;
    });
    return leaves;
  }

  int64_t TotalTokens() const {
    int64_t total = 0;
    for (const auto& [node, entry] : entries) {
      total += static_cast<int64_t>((entry.path.size() - 1) % node_tokens_ + 1);
    }
    return total;
  }

  std::map<NodeId, Entry> entries;

 private:
  size_t node_tokens_;
};

struct RandomTrial {
  explicit RandomTrial(uint32_t seed)
      : random(seed), node_tokens(1 + random() % 5), index(node_tokens), oracle(node_tokens) {}

  Ids RandomIds() {
    Ids ids(random() % 14);
    for (TokenId& id : ids) id = static_cast<TokenId>(random() % 3);
    return ids;
  }

  void InsertRandom() {
    const Ids ids = RandomIds();
    NodeId parent = PrefixIndex::kRoot;
    for (size_t at = 0; at < ids.size(); at += node_tokens) {
      const size_t end = std::min(at + node_tokens, ids.size());
      const uint64_t value = random();
      const auto inserted =
          index.Insert(parent, absl::MakeConstSpan(ids).subspan(at, end - at), value);
      ASSERT_EQ(inserted.inserted, !oracle.entries.contains(inserted.node));
      if (inserted.inserted) {
        oracle.entries[inserted.node] = {Ids(ids.begin(), ids.begin() + end), parent, 0, value};
      }
      parent = inserted.node;
    }
  }

  NodeId RandomNode() {
    return std::next(oracle.entries.begin(), random() % oracle.entries.size())->first;
  }

  void RemoveRandom() {
    if (oracle.entries.empty()) return;
    const NodeId node = RandomNode();
    const auto removed = index.Remove(node);
    ASSERT_EQ(removed.has_value(), oracle.IsLeaf(node));
    if (!removed) return;
    ASSERT_EQ(*removed, oracle.entries[node].value);
    oracle.entries.erase(node);
  }

  void TouchRandom() {
    if (oracle.entries.empty()) return;
    const NodeId node = RandomNode();
    oracle.entries[node].tick = random() % 50;
    index.Touch(node, oracle.entries[node].tick);
  }

  void CheckFind() {
    const Ids ids = RandomIds();
    const auto match = index.Find(ids);
    ASSERT_EQ(match.tokens, oracle.LongestPrefix(ids));
    size_t at = 0;
    NodeId parent = PrefixIndex::kRoot;
    for (size_t i = 0; i < match.hits.size(); ++i) {
      const auto& hit = match.hits[i];
      const Oracle::Entry& entry = oracle.entries.at(hit.node);
      ASSERT_EQ(entry.parent, parent);
      ASSERT_EQ(entry.value, hit.value);
      ASSERT_GT(hit.tokens, 0);
      if (i + 1 < match.hits.size()) {
        ASSERT_EQ(hit.tokens, static_cast<int32_t>(node_tokens));
      }
      at += static_cast<size_t>(hit.tokens);
      ASSERT_TRUE(std::equal(ids.begin(), ids.begin() + at, entry.path.begin()));
      parent = hit.node;
    }
    ASSERT_EQ(static_cast<int32_t>(at), match.tokens);
  }

  std::mt19937 random;
  size_t node_tokens;
  PrefixIndex index;
  Oracle oracle;
};

TEST(PrefixIndexTest, AgreesWithABruteForceOracleOverRandomUse) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    RandomTrial trial(seed);
    for (int step = 0; step < 120; ++step) {
      const uint32_t action = trial.random() % 4;
      if (action == 0) trial.InsertRandom();
      if (action == 1) trial.RemoveRandom();
      if (action == 2) trial.TouchRandom();
      trial.CheckFind();
      ASSERT_EQ(trial.index.size(), trial.oracle.entries.size());
      ASSERT_EQ(trial.index.total_tokens(), trial.oracle.TotalTokens());
      ASSERT_EQ(trial.index.OldestLeaves(1000, kAll), trial.oracle.LeavesByAge());
      if (HasFatalFailure()) FAIL() << "seed " << seed << " step " << step;
    }
  }
}

TEST(PrefixIndexTest, LeavesAreVisitedNewestFirstAndOnFromAnyPlace) {
  PrefixIndex index(2);
  const std::vector<TokenId> a = {1, 2}, b = {3, 4}, c = {5};
  const auto root = PrefixIndex::kRoot;
  const auto first = index.Insert(root, a, 0).node, second = index.Insert(root, b, 1).node;
  const auto under = index.Insert(second, c, 2).node;
  index.Touch(first, 7);
  index.Touch(under, 9);
  std::vector<PrefixIndex::Place> places;
  index.VisitLeavesNewestFirst({}, [&](const PrefixIndex::Place& place) {
    places.push_back(place);
    return true;
  });
  ASSERT_EQ(places.size(), 2u) << "what has children is no leaf";
  EXPECT_EQ(places[0].node, under);
  EXPECT_EQ(places[1].node, first);
  EXPECT_EQ(index.PathIds(under), (std::vector<TokenId>{3, 4, 5}));
  index.Touch(first, 11);  // moves up: a list that goes on does not come to it again
  int visited = 0;
  index.VisitLeavesNewestFirst(places[0], [&](const PrefixIndex::Place&) { return ++visited > 0; });
  EXPECT_EQ(visited, 0);
  index.VisitLeavesNewestFirst({}, [&](const PrefixIndex::Place& place) {
    EXPECT_EQ(place.node, first);
    ++visited;
    return false;
  });
  EXPECT_EQ(visited, 1);
}

}  // namespace
}  // namespace reprise
