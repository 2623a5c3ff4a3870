#include "core/engine/disk_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/token_ids.h"

namespace reprise {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr int64_t kBytes = 100;  // of every segment

class DiskCacheTest : public testing::Test {
 protected:
  static Digest Identity(uint8_t fill) {
    Digest identity;
    identity.fill(fill);
    return identity;
  }

  // Makes all of `ids` durable; the keys of its segments in order.
  std::vector<SegmentKey> Store(const Ids& ids) {
    for (SegmentRecord& record : cache_.Missing(ids)) {
      record.payload_bytes = record.stored_bytes = kBytes;
      const auto keys = cache_.Add(record);
      EXPECT_TRUE(keys.has_value());
      superseded_.insert(superseded_.end(), keys->begin(), keys->end());
    }
    return Keys(ids);
  }

  std::vector<SegmentKey> Keys(const Ids& ids) const {
    std::vector<SegmentKey> keys;
    for (const SegmentRecord& segment : cache_.Find(ids).segments) keys.push_back(segment.key);
    return keys;
  }

  int32_t Depth(const Ids& ids) const { return cache_.Find(ids).tokens; }

  DiskCache cache_{Identity(1)};
  std::vector<SegmentKey> superseded_;
};

TEST_F(DiskCacheTest, CutsAPromptIntoAChainOfSegments) {
  const std::vector<SegmentRecord> records = cache_.Missing(Range(0, 150));
  ASSERT_EQ(records.size(), 3u);
  SegmentKey parent = Identity(1);
  for (size_t i = 0; i < records.size(); ++i) {
    const auto count = i < 2 ? kSegmentTokens : 150 - 2 * kSegmentTokens;
    EXPECT_EQ(records[i].kind, i < 2 ? SegmentKind::kFull : SegmentKind::kTail);
    EXPECT_EQ(records[i].start_position, static_cast<int32_t>(i) * kSegmentTokens);
    EXPECT_EQ(records[i].ids, Range(records[i].start_position, count));
    EXPECT_EQ(records[i].identity, Identity(1));
    EXPECT_EQ(records[i].parent, parent);
    EXPECT_EQ(records[i].key, ComputeSegmentKey(records[i].kind, parent, records[i].ids));
    parent = records[i].key;
  }
}

TEST_F(DiskCacheTest, AnotherIdentityHasOtherKeys) {
  const DiskCache other(Identity(2));
  EXPECT_NE(cache_.Missing(Range(0, 10))[0].key, other.Missing(Range(0, 10))[0].key);
}

TEST_F(DiskCacheTest, FindsTheLongestStoredPrefix) {
  Store(Range(0, 150));
  struct Case {
    const char* name;
    Ids ids;
    int32_t tokens;
    size_t segments;
  };
  const Case cases[] = {
      {"the same", Range(0, 150), 150, 3},
      {"a longer one", Range(0, 200), 150, 3},
      {"a shorter one uses a segment in part", Range(0, 70), 70, 2},
      {"one that leaves inside the tail", Joined(Range(0, 140), {999}), 140, 3},
      {"one that leaves inside the first segment", Joined(Range(0, 30), {999}), 30, 1},
      {"another", Range(1, 150), 0, 0},
  };
  for (const Case& c : cases) {
    const DiskCache::Match match = cache_.Find(c.ids);
    EXPECT_EQ(match.tokens, c.tokens) << c.name;
    EXPECT_EQ(match.segments.size(), c.segments) << c.name;
  }
}

TEST_F(DiskCacheTest, AsksOnlyForWhatIsNeitherStoredNorOnItsWay) {
  Store(Range(0, 64));
  EXPECT_THAT(cache_.Missing(Range(0, 64)), IsEmpty());
  EXPECT_THAT(cache_.Missing(Range(0, 40)), IsEmpty()) << "part of a stored segment";
  const std::vector<SegmentRecord> missing = cache_.Missing(Range(0, 130));
  ASSERT_EQ(missing.size(), 2u);
  cache_.BeginWrite(missing[0].key);
  EXPECT_EQ(cache_.Missing(Range(0, 130)).size(), 1u);
  cache_.EndWrite(missing[0].key);
  EXPECT_EQ(cache_.Missing(Range(0, 130)).size(), 2u) << "the write failed";
}

TEST_F(DiskCacheTest, LongerTailSupersedesAShorterOne) {
  const SegmentKey shorter = Store(Range(0, 80)).back();
  const SegmentKey longer = Store(Range(0, 100)).back();
  EXPECT_THAT(superseded_, ElementsAre(shorter));
  Store(Range(0, 128));
  EXPECT_THAT(superseded_, ElementsAre(shorter, longer));
  EXPECT_EQ(cache_.size(), 2u);
  EXPECT_EQ(cache_.payload_bytes(), 2 * kBytes);
  EXPECT_EQ(cache_.cached_tokens(), 128);
  EXPECT_EQ(Depth(Range(0, 80)), 80);
}

TEST_F(DiskCacheTest, RecordWithoutItsParentIsRefused) {
  const std::vector<SegmentRecord> records = cache_.Missing(Range(0, 100));
  EXPECT_EQ(cache_.Add(records[1]), std::nullopt);
  EXPECT_EQ(cache_.size(), 0u);
  EXPECT_NE(cache_.Add(records[0]), std::nullopt);
  EXPECT_NE(cache_.Add(records[1]), std::nullopt);
  EXPECT_NE(cache_.Add(records[1]), std::nullopt) << "adding again changes nothing";
  EXPECT_EQ(cache_.size(), 2u);
}

TEST_F(DiskCacheTest, ForgettingASegmentForgetsWhatHangsBelow) {
  const auto first = Store(Range(0, 150));
  const auto second = Store(Joined(Range(0, 64), Range(500, 80)));
  const auto other = Store(Range(2000, 64));
  EXPECT_THAT(cache_.Forget(first[1]), UnorderedElementsAre(first[1], first[2]));
  EXPECT_EQ(Depth(Range(0, 150)), 64);
  EXPECT_THAT(cache_.Forget(first[0]), UnorderedElementsAre(second[0], second[1], second[2]));
  EXPECT_THAT(cache_.Forget(first[0]), IsEmpty());
  EXPECT_EQ(cache_.size(), 1u);
  EXPECT_EQ(cache_.payload_bytes(), kBytes);
  EXPECT_EQ(cache_.cached_tokens(), 64);
  EXPECT_EQ(Keys(Range(2000, 64)), other);
}

TEST_F(DiskCacheTest, EvictsLeastRecentlyUsedLeavesFirst) {
  const auto first = Store(Range(0, 128));
  const auto second = Store(Range(1000, 128));
  EXPECT_THAT(cache_.EvictPast(4 * kBytes), IsEmpty());
  cache_.Touch(cache_.Find(Range(0, 128)).segments, 12345);
  EXPECT_EQ(cache_.Find(Range(0, 128)).segments[0].last_used_unix_ms, 12345);
  EXPECT_EQ(cache_.Find(Range(0, 128)).segments[0].hit_count, 1);
  EXPECT_THAT(cache_.EvictPast(3 * kBytes), ElementsAre(second[1]));
  EXPECT_THAT(cache_.EvictPast(kBytes), ElementsAre(second[0], first[1]));
  EXPECT_EQ(Depth(Range(0, 128)), 64);
  EXPECT_THAT(cache_.EvictPast(0), ElementsAre(first[0]));
  EXPECT_EQ(cache_.payload_bytes(), 0);
  EXPECT_EQ(cache_.size(), 0u);
}

TEST_F(DiskCacheTest, HandsOutEachUsedRecordOnceAndNoneThatIsForgotten) {
  const auto keys = Store(Range(0, 128));
  EXPECT_THAT(cache_.TakeUsed(), IsEmpty()) << "stored is not used";
  for (const int64_t now : {5, 6}) cache_.Touch(cache_.Find(Range(0, 128)).segments, now);
  cache_.Forget(keys[1]);
  const std::vector<SegmentRecord> used = cache_.TakeUsed();
  ASSERT_EQ(used.size(), 1u);
  EXPECT_EQ(used[0].key, keys[0]);
  EXPECT_EQ(used[0].last_used_unix_ms, 6);
  EXPECT_EQ(used[0].hit_count, 2);
  EXPECT_THAT(cache_.TakeUsed(), IsEmpty());
}

TEST_F(DiskCacheTest, MarksAndPurgesReachNoEntryThatOnlyBeginsAlike) {
  const Ids other = Joined(Range(0, 70), Range(900, 30));
  Store(other);
  EXPECT_EQ(cache_.SetPinned(Range(0, 100), true), 0) << "the store has 70 tokens of it";
  EXPECT_EQ(cache_.SetExpiry(Range(0, 100), absl::FromUnixSeconds(1)), 0);
  EXPECT_THAT(cache_.DropExpired(absl::FromUnixSeconds(2)), IsEmpty());
  EXPECT_THAT(cache_.Purge(Range(0, 100)), IsEmpty());
  EXPECT_EQ(Depth(other), 100);
  EXPECT_EQ(cache_.EvictPast(0).size(), 2u) << "nothing is pinned";
}

TEST_F(DiskCacheTest, UnpinningOrPurgingALongerEntryLeavesThePinOfItsBeginning) {
  Store(Range(0, 64));
  EXPECT_EQ(cache_.SetPinned(Range(0, 64), true), 64);
  Store(Range(0, 100));
  EXPECT_EQ(cache_.SetPinned(Range(0, 100), false), 0);
  EXPECT_EQ(cache_.Purge(Range(0, 100)).size(), 1u) << "its tail";
  EXPECT_THAT(cache_.EvictPast(0), IsEmpty());
  EXPECT_EQ(cache_.Purge(Range(0, 64)).size(), 1u) << "its own pin keeps nothing from a purge";
}

TEST_F(DiskCacheTest, EvictsByLastUseInWhateverOrderRecordsWereAdded) {
  std::vector<SegmentKey> by_age(3);
  for (const int64_t used : {1, 0, 2}) {
    SegmentRecord record = cache_.Missing(Range(1000 * static_cast<TokenId>(used), 64))[0];
    record.payload_bytes = record.stored_bytes = kBytes;
    record.last_used_unix_ms = used;
    by_age[used] = record.key;
    ASSERT_TRUE(cache_.Add(record).has_value());
  }
  EXPECT_EQ(cache_.EvictPast(0), by_age);
}

}  // namespace
}  // namespace reprise
