#include "core/kv/entry_marks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise {
namespace {

using NodeId = PrefixIndex::NodeId;

// root - a(1,2) - b(3,4) - c(5,6)
//               \ d(7,8)
class EntryMarksTest : public testing::Test {
 protected:
  NodeId Add(NodeId parent, TokenId first) {
    const std::vector<TokenId> ids = {first, first + 1};
    return index_.Insert(parent, ids, 0).node;
  }
  std::vector<NodeId> Expired(int seconds) {
    return marks_.ExpiredLeaves(absl::FromUnixSeconds(seconds), [](NodeId) { return false; });
  }

  PrefixIndex index_{2};
  EntryMarks marks_{&index_};
  const NodeId a_ = Add(PrefixIndex::kRoot, 1);
  const NodeId b_ = Add(a_, 3), c_ = Add(b_, 5), d_ = Add(a_, 7);
};

TEST_F(EntryMarksTest, ExpiryReachesUpToWhatOthersHangFrom) {
  EXPECT_EQ(marks_.SetExpiry(c_, absl::FromUnixSeconds(10)), 2);
  EXPECT_EQ(marks_.ExpiryOf(b_), absl::FromUnixSeconds(10));
  EXPECT_EQ(marks_.ExpiryOf(a_), absl::InfiniteFuture());
  EXPECT_TRUE(Expired(9).empty());
  EXPECT_THAT(Expired(10), testing::ElementsAre(c_)) << "leaves first";
  marks_.Forget(c_);
  index_.Remove(c_);
  EXPECT_THAT(Expired(10), testing::ElementsAre(b_));
  const NodeId below = Add(b_, 9);
  EXPECT_TRUE(Expired(10).empty());
  marks_.SetExpiryOfOne(b_, absl::FromUnixSeconds(20));
  marks_.Forget(below);
  index_.Remove(below);
  EXPECT_TRUE(Expired(19).empty()) << "the new time holds for one that waited";
  EXPECT_THAT(Expired(20), testing::ElementsAre(b_));
}

TEST_F(EntryMarksTest, LaterExpiryReplacesAndInfiniteTakesBack) {
  marks_.SetExpiry(d_, absl::FromUnixSeconds(10));
  marks_.SetExpiry(d_, absl::FromUnixSeconds(20));
  EXPECT_TRUE(Expired(19).empty());
  EXPECT_THAT(Expired(20), testing::ElementsAre(d_));
  marks_.SetExpiry(d_, absl::InfiniteFuture());
  EXPECT_TRUE(Expired(1000).empty());
}

TEST_F(EntryMarksTest, PinnedAndKeptLeavesDoNotExpire) {
  marks_.SetExpiry(c_, absl::FromUnixSeconds(10));
  marks_.SetExpiry(d_, absl::FromUnixSeconds(10));
  EXPECT_TRUE(marks_.Pin(c_));
  EXPECT_FALSE(marks_.Pin(c_));
  EXPECT_THAT(Expired(10), testing::ElementsAre(d_));
  EXPECT_TRUE(
      marks_.ExpiredLeaves(absl::FromUnixSeconds(10), [&](NodeId n) { return n == d_; }).empty());
  EXPECT_TRUE(marks_.Unpin(c_));
  EXPECT_EQ(Expired(10).size(), 2);
}

TEST_F(EntryMarksTest, ASuccessorInheritsPinAndExpiry) {
  marks_.Pin(d_);
  marks_.SetExpiry(d_, absl::FromUnixSeconds(10));
  const NodeId longer = Add(a_, 9);
  marks_.Inherit(d_, longer);
  EXPECT_FALSE(marks_.IsPinned(d_));
  EXPECT_TRUE(marks_.IsPinned(longer));
  EXPECT_EQ(marks_.ExpiryOf(longer), absl::FromUnixSeconds(10));
  EXPECT_TRUE(marks_.IsPathPinned(longer));
  EXPECT_FALSE(marks_.IsPathPinned(a_));
}

}  // namespace
}  // namespace reprise
