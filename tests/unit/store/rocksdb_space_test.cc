// What RocksDbStore promises about the disk: never above its limit and one write buffer, whatever
// is written, removed, restarted or killed, and room for what is new.
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <thread>

#include "core/store/disk_use.h"
#include "tests/unit/store/rocksdb_folder.h"

namespace reprise {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLimit = int64_t{8} << 20;
constexpr int kSegmentBytes = 128 << 10;

// Measures the folder all the time.
class DiskWatch {
 public:
  explicit DiskWatch(std::string path) : path_(std::move(path)), thread_([this] { Watch(); }) {}
  ~DiskWatch() {
    stop_ = true;
    thread_.join();
  }
  int64_t most() const { return most_; }

 private:
  void Watch() {
    while (!stop_) {
      most_ = std::max<int64_t>(most_, MeasureDiskUse(path_).total_bytes);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  const std::string path_;
  std::atomic<int64_t> most_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

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
  const DiskWatch watch(path_);
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
