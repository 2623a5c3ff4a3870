#include "core/kv/eviction_rank.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace reprise {
namespace {

// {tokens, depth, bytes, last used, reuses}; `first` gives way before `second`.
struct Case {
  const char* name;
  EvictionFacts first, second;
  EvictionCosts costs;
  bool lru_too = false;  // LRU says the same
};

const Case kCases[] = {
    {"the longer unused", {16, 0, 1, 10, 0}, {16, 0, 1, 20, 0}, {}, true},
    {"the one that was never reused", {16, 0, 1, 10, 0}, {16, 0, 1, 10, 1}, {}},
    {"reuse outweighs a little age", {16, 0, 1, 30, 0}, {16, 0, 1, 10, 1}, {}},
    {"but not much age", {16, 0, 1, 10, 1}, {16, 0, 1, 5000, 0}, {}, true},
    {"many reuses outweigh one", {16, 0, 1, 30, 1}, {16, 0, 1, 10, 5}, {}},
    {"the larger for the same", {16, 0, 2, 10, 0}, {16, 0, 1, 10, 0}, {}},
    {"the one that is partly filled", {8, 0, 1, 10, 0}, {16, 0, 1, 10, 0}, {}},
    {"the shallower, cheaper to compute", {16, 0, 1, 10, 0}, {16, 2000, 1, 10, 0}, {0.001}},
    {"a load that saves nothing", {16, 0, 1, 10, 0}, {16, 2000, 1, 10, 0}, {0.001, 2.5}},
};

TEST(EvictionRankTest, OrdersByTheTable) {
  EvictionOptions lru;
  lru.policy = EvictionPolicy::kLru;
  for (const Case& c : kCases) {
    EXPECT_LT(EvictionRank(c.first, c.costs, {}), EvictionRank(c.second, c.costs, {})) << c.name;
    EXPECT_EQ(EvictionRank(c.first, c.costs, lru) < EvictionRank(c.second, c.costs, lru), c.lru_too)
        << c.name;
  }
}

TEST(EvictionRankTest, AHalfLifeHalvesTheChance) {
  EvictionOptions options;
  options.half_life_seconds = 50;
  const EvictionFacts old{16, 0, 1, 100, 0}, twice_as_large{16, 0, 2, 150, 0};
  EXPECT_NEAR(EvictionRank(old, {}, options), EvictionRank(twice_as_large, {}, options), 1e-9);
}

TEST(EvictionRankTest, WholeNumbersKeepTheOrder) {
  const double ascending[] = {-1e300, -2, -1, -1e-9, 0, 1e-300, 1, 1 + 1e-15, 3, 1e300};
  for (size_t i = 1; i < std::size(ascending); ++i) {
    EXPECT_LT(OrderOf(ascending[i - 1]), OrderOf(ascending[i])) << i;
  }
}

TEST(EvictionRankTest, IsFiniteForWhateverARecordSays) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const EvictionFacts facts{static_cast<int32_t>(random()) / 2,
                              static_cast<int32_t>(random()) / 2, static_cast<int64_t>(random()),
                              1e9, static_cast<int64_t>(random())};
    EXPECT_TRUE(std::isfinite(EvictionRank(facts, {0.001, 1}, {}))) << i;
  }
}

}  // namespace
}  // namespace reprise
