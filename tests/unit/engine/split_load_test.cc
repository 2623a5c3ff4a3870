#include "core/engine/split_load.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace reprise {
namespace {

TEST(SplitFrontierTest, EachSegmentIsClaimedOnce) {
  SplitFrontier frontier(10);
  EXPECT_EQ(frontier.ClaimFront(4), 4u);  // half would be five
  EXPECT_EQ(frontier.ClaimBack(), 9u);
  EXPECT_EQ(frontier.ClaimBack(), 8u);
  EXPECT_EQ(frontier.ClaimFront(4), 2u) << "half of what is left";
  EXPECT_EQ(frontier.ClaimFront(4), 1u);
  EXPECT_EQ(frontier.ClaimBack(), 7u);
  EXPECT_EQ(frontier.ClaimBack(), std::nullopt);
  EXPECT_EQ(frontier.ClaimFront(4), 0u);
}

TEST(SplitFrontierTest, AFailedLoadLeavesItsSegmentAndAllBeforeToTheFront) {
  SplitFrontier frontier(4);
  EXPECT_EQ(frontier.ClaimBack(), 3u);
  EXPECT_EQ(frontier.ClaimBack(), 2u);
  EXPECT_FALSE(frontier.failed());
  frontier.Fail(2);
  EXPECT_TRUE(frontier.failed());
  EXPECT_EQ(frontier.ClaimBack(), std::nullopt);
  size_t claimed = 0;
  while (const size_t more = frontier.ClaimFront(8)) claimed += more;
  EXPECT_EQ(claimed, 3u);
}

TEST(SplitFrontierTest, TwoThreadsMeetWithoutGapOrOverlap) {
  for (int round = 0; round < 200; ++round) {
    SplitFrontier frontier(64);
    std::atomic<size_t> loaded{0};
    std::thread reader([&] {
      while (frontier.ClaimBack()) ++loaded;
    });
    size_t computed = 0;
    while (const size_t more = frontier.ClaimFront(4)) computed += more;
    reader.join();
    EXPECT_EQ(computed + loaded, 64u);
  }
}

}  // namespace
}  // namespace reprise
