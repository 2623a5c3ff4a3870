// What RocksDbStore promises about the disk: never above its limit and one write buffer, whatever
// is written, removed, restarted or killed, and room for what is new.
#include <gtest/gtest.h>

#include <chrono>
#include <deque>

#include "tests/fakes/disk_watch.h"
#include "tests/unit/store/rocksdb_folder.h"

namespace reprise {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLimit = int64_t{8} << 20;
constexpr int kSegmentBytes = 128 << 10;

class RocksDbSpaceTest : public RocksDbFolderTest {
 protected:
  RocksDbOptions Options(int64_t limit = kLimit) const {
    RocksDbOptions options;
    options.path = path_;
    options.max_disk_bytes = limit;
    options.write_bytes_per_second = 0;
    return options;
  }

  void Reopen(int64_t limit = kLimit) {
    store_.reset();
    auto store = OpenRocksDbStore(Options(limit));
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  static SegmentWrite Large(int seed) {
    SegmentWrite write = MakeWrite(seed);
    write.payload.resize(kSegmentBytes);
    for (size_t i = 0; i < write.payload.size(); i += 64) {
      write.payload[i] = static_cast<uint8_t>(random_());
    }
    write.record.last_used_unix_ms = seed;
    return write;
  }

  // Writes `count` segments, removing others so that the rest fits, as the engine does:
  // mostly the oldest, sometimes any.
  void Churn(int count) {
    for (int i = 0; i < count; i += 4) {
      std::vector<SegmentWrite> writes;
      for (int j = 0; j < 4; ++j) writes.push_back(Large(++seed_));
      ASSERT_TRUE(store_->WriteSegments(writes).ok());
      for (const SegmentWrite& write : writes) live_.push_back(write.record);
      std::vector<SegmentKey> gone;
      while (static_cast<int64_t>(live_.size()) * kSegmentBytes > store_->PayloadLimit()) {
        const size_t at = random_() % 4 == 0 ? random_() % live_.size() : 0;
        gone.push_back(live_[at].key);
        live_.erase(live_.begin() + static_cast<int64_t>(at));
      }
      ASSERT_TRUE(store_->DeleteSegments(gone).ok());
    }
  }

  double ShareAlive() const {
    const StoreStats stats = store_->Stats();
    return static_cast<double>(stats.payload_bytes) / static_cast<double>(stats.disk_bytes);
  }

  static inline std::mt19937 random_{7};
  std::unique_ptr<KvStore> store_;
  std::deque<SegmentRecord> live_;
  int seed_ = 0;
};

TEST_F(RocksDbSpaceTest, StaysBelowTheLimitThroughChurnAndRestartsAndKeepsWhatLives) {
  fs::create_directories(path_);
  const DiskWatch watch(path_, std::chrono::milliseconds(1));
  for (int restart = 0; restart < 3; ++restart) {
    Reopen();
    EXPECT_EQ(store_->Stats().segment_count, static_cast<int64_t>(live_.size()));
    EXPECT_EQ(store_->Stats().payload_bytes, static_cast<int64_t>(live_.size()) * kSegmentBytes);
    Churn(96);
    EXPECT_GE(ShareAlive(), 0.7) << "after restart " << restart;
  }
  EXPECT_LE(watch.most(), kLimit + WriteBufferBytes(Options()));
  for (const SegmentRecord& record : live_) {
    std::vector<uint8_t> out(kSegmentBytes);
    EXPECT_TRUE(store_->ReadSegment(record, absl::MakeSpan(out)).ok());
  }
}

TEST_F(RocksDbSpaceTest, ASmallerLimitIsKeptFromTheStartByRemovingTheLeastRecentlyUsed) {
  Reopen();
  Churn(96);
  Reopen(kLimit / 2);
  EXPECT_LE(store_->Stats().disk_bytes, kLimit / 2);
  EXPECT_GT(store_->Stats().segment_count, 0);
  std::vector<uint8_t> out(kSegmentBytes);
  EXPECT_TRUE(store_->ReadSegment(live_.back(), absl::MakeSpan(out)).ok());
  EXPECT_FALSE(store_->ReadSegment(live_.front(), absl::MakeSpan(out)).ok());
}

TEST_F(RocksDbSpaceTest, ASmallerLimitTakesExpiredEntriesFirstAndPinnedOnesLast) {
  Reopen();
  Churn(96);
  SegmentRecord pinned = live_.front(), expired = live_.back();
  pinned.pinned = true;
  expired.expires_unix_ms = 1;
  ASSERT_TRUE(store_->UpdateUsage({pinned, expired}).ok());
  SegmentWrite child = Large(++seed_);
  child.record.parent = pinned.key;
  child.record.pinned = true;
  child.record.start_position = kSegmentTokens;
  child.record.key = ComputeSegmentKey(child.record.kind, pinned.key, child.record.ids);
  ASSERT_TRUE(store_->WriteSegments({child}).ok());
  pinned.pinned = false;  // what leads to a pinned segment stays too
  ASSERT_TRUE(store_->UpdateUsage({pinned}).ok());
  Reopen(kLimit / 2);
  EXPECT_LE(store_->Stats().disk_bytes, kLimit / 2);
  std::vector<uint8_t> out(kSegmentBytes);
  EXPECT_TRUE(store_->ReadSegment(pinned, absl::MakeSpan(out)).ok());
  EXPECT_TRUE(store_->ReadSegment(child.record, absl::MakeSpan(out)).ok());
  EXPECT_FALSE(store_->ReadSegment(expired, absl::MakeSpan(out)).ok());
  EXPECT_TRUE(store_->ReadSegment(live_[live_.size() - 2], absl::MakeSpan(out)).ok());
}

// Who lists is told only of what a smaller limit leaves.
TEST_F(RocksDbSpaceTest, AListingThatSettlesTheStoreNamesOnlyWhatStays) {
  Reopen();
  Churn(96);
  store_.reset();
  RocksDbOptions options = Options(kLimit / 2);
  options.settle_when_listed = true;
  auto store = OpenRocksDbStore(options);
  ASSERT_TRUE(store.ok()) << store.status();
  std::vector<SegmentRecord> listed;
  ASSERT_TRUE((*store)
                  ->ForEachSegment(live_.back().identity,
                                   [&](const SegmentRecord& record) { listed.push_back(record); })
                  .ok());
  EXPECT_LE((*store)->Stats().disk_bytes, kLimit / 2);
  EXPECT_GT(listed.size(), 0u);
  EXPECT_EQ(static_cast<int64_t>(listed.size()), (*store)->Stats().segment_count);
  std::vector<uint8_t> out(kSegmentBytes);
  for (const SegmentRecord& record : listed) {
    EXPECT_TRUE((*store)->ReadSegment(record, absl::MakeSpan(out)).ok());
  }
}

// One call may take several files: where a later one finds no room, the earlier ones go again.
TEST_F(RocksDbSpaceTest, ARefusedCallLeavesNoneOfItsSegments) {
  Reopen();
  absl::Status status;
  int64_t before = 0;
  while (status.ok()) {
    before = store_->Stats().segment_count;
    std::vector<SegmentWrite> writes;
    const int64_t count = 3 * WriteBufferBytes(Options()) / kSegmentBytes;
    for (int64_t i = 0; i < count; ++i) writes.push_back(Large(++seed_));
    status = store_->WriteSegments(writes);
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(store_->Stats().segment_count, before);
}

TEST_F(RocksDbSpaceTest, RefusesAWriteForWhichNothingMakesRoomAndTakesItOnceSomethingGoes) {
  Reopen();
  absl::Status status;
  while (status.ok()) {
    const std::vector<SegmentWrite> writes = {Large(++seed_), Large(++seed_), Large(++seed_)};
    status = store_->WriteSegments(writes);
    for (const SegmentWrite& write : writes) live_.push_back(write.record);
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_LE(store_->Stats().disk_bytes, kLimit + WriteBufferBytes(Options()));
  std::vector<SegmentKey> gone;
  for (int i = 0; i < 30; ++i) gone.push_back(live_[i].key);
  ASSERT_TRUE(store_->DeleteSegments(gone).ok());
  EXPECT_TRUE(store_->WriteSegments({Large(++seed_)}).ok());
}

}  // namespace
}  // namespace reprise
