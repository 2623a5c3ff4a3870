#include "core/engine/block_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/engine/token_ids.h"

namespace reprise {
namespace {

using testing::ElementsAre;

using Blocks = std::vector<BlockId>;

constexpr NamespaceId kIn = 0;

class BlockCacheTest : public testing::Test {
 protected:
  BlockCacheTest() { cache_.AddNamespace(0); }

  Blocks Allocate(BlockCache& cache, int count) {
    Blocks blocks;
    for (int i = 0; i < count; ++i) blocks.push_back(cache.Allocate(kIn).value());
    return blocks;
  }

  void ReleaseAll(BlockCache& cache, const Blocks& blocks) {
    for (const BlockId block : blocks) cache.Release(block);
  }

  // What a sequence leaves behind that computed all of `ids` by itself.
  void Cache(BlockCache& cache, const Ids& ids) {
    Blocks blocks = Allocate(cache, static_cast<int>(ids.size() + kBlockTokens - 1) / kBlockTokens);
    cache.Commit(kIn, ids, absl::MakeSpan(blocks), /*whole_blocks_only=*/false);
    ReleaseAll(cache, blocks);
  }

  Metrics metrics_;
  BlockCache cache_{8, &metrics_};
};

TEST_F(BlockCacheTest, KeptBlocksAreSharedInOrder) {
  const Ids ids = Range(0, 40);
  Blocks blocks = Allocate(cache_, 3);
  cache_.Commit(kIn, ids, absl::MakeSpan(blocks), false);
  EXPECT_EQ(cache_.MatchedTokens(kIn, ids), 40);
  EXPECT_EQ(cache_.Share(kIn, ids, 40), blocks);
  EXPECT_EQ(cache_.num_cached(), 3);
  EXPECT_EQ(cache_.cached_tokens(), 40);
  EXPECT_EQ(cache_.num_available(), 5);
  ReleaseAll(cache_, blocks);
  EXPECT_EQ(cache_.num_available(), 5) << "the other use goes on";
  ReleaseAll(cache_, blocks);
  EXPECT_EQ(cache_.num_available(), 8);
  EXPECT_EQ(cache_.num_free(), 5);
}

TEST_F(BlockCacheTest, SharesOnlyWhatIsAskedFor) {
  Cache(cache_, Range(0, 40));
  struct Case {
    int32_t tokens;
    size_t blocks;
  };
  for (const Case& c : {Case{0, 0}, Case{1, 1}, Case{16, 1}, Case{17, 2}, Case{40, 3}}) {
    const Blocks shared = cache_.Share(kIn, Range(0, 40), c.tokens);
    EXPECT_EQ(shared.size(), c.blocks) << c.tokens;
    ReleaseAll(cache_, shared);
  }
}

TEST_F(BlockCacheTest, MatchesPartOfABlock) {
  Cache(cache_, Range(0, 40));
  EXPECT_EQ(cache_.MatchedTokens(kIn, Joined(Range(0, 35), {99})), 35);
  EXPECT_EQ(cache_.MatchedTokens(kIn, Joined(Range(0, 5), {99})), 5);
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(1, 40)), 0);
}

TEST_F(BlockCacheTest, PartFilledBlockStaysPrivateWhileItsSequenceRuns) {
  Blocks blocks = Allocate(cache_, 2);
  cache_.Commit(kIn, Range(0, 20), absl::MakeSpan(blocks), /*whole_blocks_only=*/true);
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 20)), 16);
  cache_.Commit(kIn, Range(0, 20), absl::MakeSpan(blocks), /*whole_blocks_only=*/false);
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 20)), 20);
  ReleaseAll(cache_, blocks);
  EXPECT_EQ(cache_.num_available(), 8);
}

TEST_F(BlockCacheTest, LongerTailSupersedesAShorterOne) {
  Cache(cache_, Range(0, 20));
  Cache(cache_, Range(0, 30));
  EXPECT_EQ(cache_.num_cached(), 2);
  EXPECT_EQ(cache_.cached_tokens(), 30);
  Cache(cache_, Range(0, 33));
  EXPECT_EQ(cache_.num_cached(), 3);
  EXPECT_EQ(cache_.cached_tokens(), 33);
  EXPECT_EQ(cache_.num_free(), 5);
}

TEST_F(BlockCacheTest, ShorterTailAddsNothingToALongerOne) {
  Cache(cache_, Range(0, 30));
  Cache(cache_, Range(0, 20));
  EXPECT_EQ(cache_.num_cached(), 2);
  EXPECT_EQ(cache_.cached_tokens(), 30);
  EXPECT_EQ(cache_.num_free(), 6);
}

TEST_F(BlockCacheTest, SupersededTailInUseKeepsItsBlockUntilReleased) {
  Cache(cache_, Range(0, 10));
  const Blocks shared = cache_.Share(kIn, Range(0, 10), 10);
  Cache(cache_, Range(0, 16));
  EXPECT_EQ(cache_.num_available(), 7);
  ReleaseAll(cache_, shared);
  EXPECT_EQ(cache_.num_available(), 8);
  EXPECT_EQ(cache_.num_free(), 7);
}

TEST_F(BlockCacheTest, EqualKvIsKeptOnce) {
  Blocks first = Allocate(cache_, 2), second = Allocate(cache_, 2);
  cache_.Commit(kIn, Range(0, 32), absl::MakeSpan(first), true);
  cache_.Commit(kIn, Range(0, 32), absl::MakeSpan(second), true);
  EXPECT_EQ(second, first) << "the second sequence goes on with the first one's blocks";
  EXPECT_EQ(cache_.num_free(), 6);
  ReleaseAll(cache_, first);
  EXPECT_EQ(cache_.num_available(), 6);
  ReleaseAll(cache_, second);
  EXPECT_EQ(cache_.num_available(), 8);
}

TEST_F(BlockCacheTest, EvictsLeastRecentlyUsedLeavesFirst) {
  Cache(cache_, Range(0, 64));
  Cache(cache_, Range(1000, 64));
  ReleaseAll(cache_, cache_.Share(kIn, Range(0, 64), 64));  // a use
  Blocks taken;
  std::vector<std::pair<int32_t, int32_t>> left;
  for (int i = 0; i < 5; ++i) {
    taken.push_back(cache_.Allocate(kIn).value());
    left.emplace_back(cache_.MatchedTokens(kIn, Range(0, 64)),
                      cache_.MatchedTokens(kIn, Range(1000, 64)));
  }
  const auto pair = [](int32_t a, int32_t b) { return std::pair<int32_t, int32_t>(a, b); };
  EXPECT_THAT(left,
              ElementsAre(pair(64, 48), pair(64, 32), pair(64, 16), pair(64, 0), pair(48, 0)));
  ReleaseAll(cache_, taken);
}

TEST_F(BlockCacheTest, NeverEvictsABlockInUse) {
  Cache(cache_, Range(0, 64));
  const Blocks shared = cache_.Share(kIn, Range(0, 64), 32);
  const Blocks rest = Allocate(cache_, 6);
  EXPECT_EQ(cache_.Allocate(kIn).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 64)), 32);
  ReleaseAll(cache_, rest);
  ReleaseAll(cache_, shared);
  EXPECT_EQ(cache_.num_available(), 8);
}

// Sequences that share, compute, keep and end in any order.
class Traffic {
 public:
  Traffic(BlockCache& cache, uint32_t seed) : cache_(cache), random_(seed) {}

  void Start() {
    Live live;
    // Few different blocks, so that prefixes meet, and tails of any length.
    for (int i = Pick(0, 3); i >= 0; --i) live.ids = Joined(live.ids, Range(100 * Pick(0, 1), 16));
    live.ids.resize(live.ids.size() - Pick(0, 15));
    const int32_t shared = cache_.MatchedTokens(kIn, live.ids) / kBlockTokens * kBlockTokens;
    live.blocks = cache_.Share(kIn, live.ids, shared);
    while (live.blocks.size() * kBlockTokens < live.ids.size()) {
      const int32_t available = cache_.num_available();
      const auto block = cache_.Allocate(kIn);
      ASSERT_EQ(block.ok(), available > 0) << available << " available";
      if (!block.ok()) break;
      live.blocks.push_back(*block);
    }
    live.ids.resize(std::min(live.ids.size(), live.blocks.size() * kBlockTokens));
    live_.push_back(std::move(live));
  }

  void CommitWhole() {
    if (live_.empty()) return;
    Live& live = live_[Pick(0, static_cast<int>(live_.size()) - 1)];
    cache_.Commit(kIn, live.ids, absl::MakeSpan(live.blocks), true);
  }

  void End(bool keep) {
    if (live_.empty()) return;
    const int index = Pick(0, static_cast<int>(live_.size()) - 1);
    Live live = std::move(live_[index]);
    live_.erase(live_.begin() + index);
    if (keep) cache_.Commit(kIn, live.ids, absl::MakeSpan(live.blocks), false);
    for (const BlockId block : live.blocks) cache_.Release(block);
  }

  bool idle() const { return live_.empty(); }
  int Pick(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }

 private:
  struct Live {
    Ids ids;
    Blocks blocks;
  };
  BlockCache& cache_;
  std::mt19937 random_;
  std::vector<Live> live_;
};

TEST_F(BlockCacheTest, EveryAvailableBlockCanBeHadAndNoneGetsLost) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    BlockCache cache(12, &metrics_);
    cache.AddNamespace(0);
    Traffic traffic(cache, seed);
    for (int i = 0; i < 200; ++i) {
      const int action = traffic.Pick(0, 3);
      if (action == 0) {
        ASSERT_NO_FATAL_FAILURE(traffic.Start()) << "seed " << seed;
      }
      if (action == 1) traffic.CommitWhole();
      if (action >= 2) traffic.End(/*keep=*/action == 2);
    }
    while (!traffic.idle()) traffic.End(true);
    EXPECT_EQ(cache.num_available(), 12) << "seed " << seed;
    EXPECT_EQ(cache.num_free() + cache.num_cached(), 12) << "seed " << seed;
    Allocate(cache, 12);
    EXPECT_EQ(cache.num_cached(), 0) << "seed " << seed;
  }
}

TEST_F(BlockCacheTest, NamespacesFindNothingOfEachOther) {
  const NamespaceId other = cache_.AddNamespace(0);
  Cache(cache_, Range(0, 32));
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 32)), 32);
  EXPECT_EQ(cache_.MatchedTokens(other, Range(0, 32)), 0);
  EXPECT_TRUE(cache_.Share(other, Range(0, 32), 32).empty());
  EXPECT_EQ(cache_.num_held(kIn), 2);
  EXPECT_EQ(cache_.num_held(other), 0);
}

TEST_F(BlockCacheTest, ANamespaceAtItsLimitEvictsItsOwnAndNeverHoldsMore) {
  const NamespaceId small = cache_.AddNamespace(3);
  Cache(cache_, Range(0, 32));
  Blocks blocks;
  for (int i = 0; i < 3; ++i) blocks.push_back(cache_.Allocate(small).value());
  EXPECT_TRUE(absl::IsResourceExhausted(cache_.Allocate(small).status())) << "three are free";
  cache_.Commit(small, Range(500, 48), absl::MakeSpan(blocks), false);
  ReleaseAll(cache_, blocks);
  EXPECT_EQ(cache_.num_held(small), 3) << "what is cached counts";
  const BlockId block = cache_.Allocate(small).value();
  EXPECT_EQ(cache_.MatchedTokens(small, Range(500, 48)), 32) << "its own deepest went";
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 32)), 32);
  EXPECT_EQ(cache_.num_held(small), 3);
  cache_.Release(block);
  EXPECT_EQ(cache_.num_held(small), 2);
}

TEST_F(BlockCacheTest, OfAFullPoolTheNamespaceThatHoldsMostGivesWay) {
  const NamespaceId other = cache_.AddNamespace(0);
  Cache(cache_, Range(0, 32));  // two blocks, used first
  Blocks blocks;
  for (int i = 0; i < 6; ++i) blocks.push_back(cache_.Allocate(other).value());
  cache_.Commit(other, Range(500, 96), absl::MakeSpan(blocks), false);
  ReleaseAll(cache_, blocks);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(cache_.Allocate(other).ok());
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 32)), 32);
  EXPECT_EQ(cache_.MatchedTokens(other, Range(500, 96)), 32);
}

TEST_F(BlockCacheTest, PurgeTakesWhatNothingElseReachesOrUses) {
  Cache(cache_, Range(0, 48));
  Cache(cache_, Joined(Range(0, 16), Range(900, 16)));
  ASSERT_TRUE(cache_.SetPinned(kIn, Range(0, 48), true).ok());
  const Blocks used = cache_.Share(kIn, Range(0, 48), 48);
  EXPECT_EQ(cache_.Purge(kIn, Range(0, 48)), 0) << "a request runs on it";
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 48)), 48);
  ReleaseAll(cache_, used);
  EXPECT_EQ(cache_.num_pinned(), 0) << "the pin is gone";
  EXPECT_EQ(cache_.Purge(kIn, Range(0, 48)), 32) << "the first block is the other's too";
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 48)), 16);
  EXPECT_EQ(cache_.num_held(kIn), 2);
}

TEST_F(BlockCacheTest, MarksAndPurgesReachNoEntryThatOnlyBeginsAlike) {
  const Ids other = Joined(Range(0, 20), Range(900, 12));
  Cache(cache_, other);
  EXPECT_EQ(cache_.SetPinned(kIn, Range(0, 32), true).value(), 0);
  EXPECT_EQ(cache_.SetExpiry(kIn, Range(0, 32), absl::FromUnixSeconds(1)), 0);
  cache_.DropExpired(absl::FromUnixSeconds(2));
  EXPECT_EQ(cache_.Purge(kIn, Range(0, 32)), 0);
  EXPECT_EQ(cache_.MatchedTokens(kIn, other), 32);
}

TEST_F(BlockCacheTest, UnpinningOrPurgingALongerEntryLeavesThePinOfItsBeginning) {
  Cache(cache_, Range(0, 32));
  ASSERT_TRUE(cache_.SetPinned(kIn, Range(0, 32), true).ok());
  Cache(cache_, Range(0, 48));
  EXPECT_EQ(cache_.SetPinned(kIn, Range(0, 48), false).value(), 0);
  EXPECT_EQ(cache_.Purge(kIn, Range(0, 48)), 16);
  EXPECT_EQ(cache_.num_pinned(), 2);
  EXPECT_EQ(cache_.Purge(kIn, Range(0, 32)), 32);
}

TEST_F(BlockCacheTest, WhatManyGoOnFromOutlastsNewerOnes) {
  EvictionOptions lru;
  lru.policy = EvictionPolicy::kLru;
  BlockCache recent(6, &metrics_, lru), aware(6, &metrics_);
  for (BlockCache* cache : {&recent, &aware}) {
    cache->AddNamespace(0);
    const Ids shared = Range(0, 16);
    for (TokenId first = 100; first <= 300; first += 100) {  // three go on from it
      Blocks blocks = cache->Share(kIn, shared, 16);
      while (blocks.size() < 2) blocks.push_back(cache->Allocate(kIn).value());
      cache->Commit(kIn, Joined(shared, Range(first, 16)), absl::MakeSpan(blocks), false);
      ReleaseAll(*cache, blocks);
    }
    for (TokenId first = 1000; first < 2000; first += 100) Cache(*cache, Range(first, 16));
  }
  EXPECT_EQ(recent.MatchedTokens(kIn, Range(0, 16)), 0);
  EXPECT_EQ(aware.MatchedTokens(kIn, Range(0, 16)), 16);
}

// Turns of one conversation are no reuse by many.
TEST_F(BlockCacheTest, AConversationThatGoesOnIsNoMoreLikelyToThanOthers) {
  BlockCache cache(6, &metrics_);
  cache.AddNamespace(0);
  Cache(cache, Range(0, 16));
  Blocks blocks = cache.Share(kIn, Range(0, 16), 16);
  blocks.push_back(cache.Allocate(kIn).value());
  cache.Commit(kIn, Range(0, 32), absl::MakeSpan(blocks), false);
  ReleaseAll(cache, blocks);
  for (TokenId first = 1000; first < 1600; first += 100) Cache(cache, Range(first, 16));
  EXPECT_EQ(cache.MatchedTokens(kIn, Range(0, 32)), 0);
}

TEST_F(BlockCacheTest, PinsAndExpiriesHoldWhateverTheOrder) {
  Cache(cache_, Range(0, 32));
  EXPECT_EQ(cache_.SetPinned(kIn, Range(0, 32), true).value(), 32);
  EXPECT_EQ(cache_.SetPinned(kIn, Range(0, 32), true).value(), 32) << "once more changes nothing";
  EXPECT_EQ(cache_.num_pinned(), 2);
  EXPECT_EQ(cache_.num_available(), 6);
  for (TokenId first = 1000; first < 3000; first += 100) Cache(cache_, Range(first, 16));
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 32)), 32);
  Cache(cache_, Range(5000, 48));
  EXPECT_EQ(cache_.SetPinned(kIn, Range(5000, 48), true).status().code(),
            absl::StatusCode::kResourceExhausted)
      << "five of eight blocks";
  cache_.SetExpiry(kIn, Range(0, 32), absl::FromUnixSeconds(10));
  cache_.DropExpired(absl::FromUnixSeconds(20));
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 32)), 32) << "pinned";
  EXPECT_EQ(cache_.SetPinned(kIn, Range(0, 32), false).value(), 32);
  EXPECT_EQ(cache_.SetPinned(kIn, Range(0, 32), false).value(), 0);
  cache_.DropExpired(absl::FromUnixSeconds(20));
  EXPECT_EQ(cache_.MatchedTokens(kIn, Range(0, 32)), 0);
  EXPECT_EQ(cache_.num_available(), 8);
}

}  // namespace
}  // namespace reprise
