#include "core/kv/block_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace reprise {
namespace {

TEST(BlockPoolTest, HandsOutEachBlockOnce) {
  BlockPool pool(4);
  std::set<BlockId> blocks;
  for (int i = 0; i < 4; ++i) {
    const auto block = pool.Allocate();
    ASSERT_TRUE(block.ok());
    EXPECT_EQ(pool.references(*block), 1);
    blocks.insert(*block);
  }
  EXPECT_EQ(blocks, (std::set<BlockId>{0, 1, 2, 3}));
  EXPECT_EQ(pool.num_free(), 0);
}

TEST(BlockPoolTest, RefusesWhenNoneIsFree) {
  BlockPool pool(1);
  ASSERT_TRUE(pool.Allocate().ok());
  EXPECT_EQ(pool.Allocate().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(BlockPool(0).Allocate().status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(BlockPoolTest, FreesABlockWithItsLastReference) {
  BlockPool pool(1);
  const BlockId block = *pool.Allocate();
  pool.AddReference(block);
  pool.Release(block);
  EXPECT_EQ(pool.num_free(), 0);
  pool.Release(block);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_EQ(pool.references(block), 0);
  EXPECT_EQ(*pool.Allocate(), block);
}

TEST(BlockPoolTest, AgreesWithAReferenceCountOverRandomUse) {
  constexpr int kBlocks = 13;
  std::mt19937 random(7);
  BlockPool pool(kBlocks);
  std::vector<int> expected(kBlocks, 0);
  for (int step = 0; step < 20000; ++step) {
    const BlockId block = static_cast<BlockId>(random() % kBlocks);
    const uint32_t action = random() % 4;
    if (action < 2 && expected[block] > 0) {
      pool.Release(block);
      --expected[block];
    } else if (action == 2 && expected[block] > 0) {
      pool.AddReference(block);
      ++expected[block];
    } else if (const auto allocated = pool.Allocate(); allocated.ok()) {
      ASSERT_EQ(expected[*allocated]++, 0);
    }
    int free = 0;
    for (int i = 0; i < kBlocks; ++i) {
      ASSERT_EQ(pool.references(i), expected[i]);
      free += expected[i] == 0 ? 1 : 0;
    }
    ASSERT_EQ(pool.num_free(), free);
  }
}

}  // namespace
}  // namespace reprise
