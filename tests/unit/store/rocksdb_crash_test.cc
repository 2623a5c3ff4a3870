// What a crash at any moment leaves in the folder of a RocksDbStore: all that was
// acknowledged, and nothing that no record names.
#include <fcntl.h>
#include <signal.h>

#include <cstring>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "tests/unit/store/rocksdb_folder.h"

namespace reprise {
namespace {

namespace fs = std::filesystem;

class RocksDbCrashTest : public RocksDbFolderTest {};

// As after a crash between a segment and its record.
TEST_F(RocksDbCrashTest, ASegmentWithoutItsRecordGoesWhenTheFolderIsOpened) {
  const SegmentWrite orphan = MakeWrite(1), kept = MakeWrite(2);
  ASSERT_TRUE(Open()->WriteSegments({orphan, kept}).ok());
  EditDatabase(path_, [&](rocksdb::DB& db, auto*, auto* records) {
    std::string key(AsText(orphan.record.identity));
    absl::StrAppend(&key, std::string(8, '\0'), AsText(orphan.record.key));
    std::string value;
    ASSERT_TRUE(db.Get(rocksdb::ReadOptions(), records, key, &value).ok());
    ASSERT_TRUE(db.Delete(rocksdb::WriteOptions(), records, key).ok());
  });
  ASSERT_EQ(CountKeys(path_).segments, 2);
  EXPECT_TRUE(Read(*Open(), kept.record).ok());
  EXPECT_EQ(CountKeys(path_).segments, 1);
}

TEST_F(RocksDbCrashTest, ASegmentWhoseRecordIsUnreadableGoesWithIt) {
  const SegmentWrite write = MakeWrite(1);
  ASSERT_TRUE(Open()->WriteSegments({write}).ok());
  EditDatabase(path_, [&](rocksdb::DB& db, auto*, auto* records) {
    std::string key(AsText(write.record.identity));
    absl::StrAppend(&key, std::string(8, '\0'), AsText(write.record.key));
    ASSERT_TRUE(db.Put(rocksdb::WriteOptions(), records, key, "garbage").ok());
  });
  EXPECT_EQ(Open()->Stats().corrupt_count, 1);
  EXPECT_EQ(CountKeys(path_).segments, 0);
  EXPECT_EQ(CountKeys(path_).records, 0);
}

// A copy of the files while the store is open is what a kill leaves.
TEST_F(RocksDbCrashTest, ACopyOfTheOpenFolderHasAllThatWasAcknowledged) {
  const std::string copy = path_ + "-copy";
  const absl::Cleanup remove_copy = [&] { fs::remove_all(copy); };
  const auto store = Open();
  const std::vector<SegmentWrite> writes = {MakeWrite(1), MakeWrite(2, 9)};
  for (const SegmentWrite& write : writes) ASSERT_TRUE(store->WriteSegments({write}).ok());
  fs::copy(path_, copy, fs::copy_options::recursive);
  fs::remove(copy + "/LOCK");
  const auto recovered = OpenRocksDbStore({copy});
  ASSERT_TRUE(recovered.ok()) << recovered.status();
  for (const SegmentWrite& write : writes) {
    std::vector<uint8_t> payload;
    ASSERT_TRUE(Read(**recovered, write.record, &payload).ok());
    EXPECT_EQ(payload, write.payload);
  }
}

TEST_F(RocksDbCrashTest, ADeletedSegmentLeavesNothingBehindAfterAKill) {
  const std::string copy = path_ + "-copy";
  const absl::Cleanup remove_copy = [&] { fs::remove_all(copy); };
  const SegmentWrite gone = MakeWrite(1), kept = MakeWrite(2), rewritten = MakeWrite(3);
  const auto store = Open();
  ASSERT_TRUE(store->WriteSegments({gone, kept, rewritten}).ok());
  ASSERT_TRUE(store->DeleteSegments({rewritten.record.key}).ok());
  ASSERT_TRUE(store->WriteSegments({rewritten}).ok());
  ASSERT_TRUE(store->DeleteSegments({gone.record.key}).ok());
  fs::copy(path_, copy, fs::copy_options::recursive);
  fs::remove(copy + "/LOCK");
  {
    const auto recovered = OpenRocksDbStore({copy});
    ASSERT_TRUE(recovered.ok()) << recovered.status();
    EXPECT_TRUE(Read(**recovered, kept.record).ok());
    EXPECT_TRUE(Read(**recovered, rewritten.record).ok());
  }
  EXPECT_EQ(CountKeys(copy).segments, 2);
}

TEST_F(RocksDbCrashTest, UsePromptsAndBytesAreAfterAKillWhatTheyWereBefore) {
  const std::string copy = path_ + "-copy";
  const absl::Cleanup remove_copy = [&] { fs::remove_all(copy); };
  const auto store = Open();
  const std::vector<SegmentWrite> writes = {MakeWrite(1), MakeWrite(2, 9), MakeWrite(3)};
  ASSERT_TRUE(store->WriteSegments(writes).ok());
  ASSERT_TRUE(store->DeleteSegments({writes[2].record.key}).ok());
  SegmentRecord used = writes[0].record;
  used.hit_count = 5;
  used.last_used_unix_ms = 77;
  ASSERT_TRUE(store->UpdateUsage({used}).ok());
  for (const uint64_t id : {1, 2}) {
    ASSERT_TRUE(store->WritePrompt({id, Identity(9), {7, 8}, {1.0f}, 3}).ok());
  }
  ASSERT_TRUE(store->DeletePrompt(Identity(9), 1).ok());
  fs::copy(path_, copy, fs::copy_options::recursive);
  fs::remove(copy + "/LOCK");
  const auto recovered = OpenRocksDbStore({copy});
  ASSERT_TRUE(recovered.ok()) << recovered.status();
  const StoreStats before = store->Stats(), after = (*recovered)->Stats();
  EXPECT_EQ(after.segment_count, before.segment_count);
  EXPECT_EQ(after.payload_bytes, before.payload_bytes);
  EXPECT_EQ(after.prompt_count, 1);
  EXPECT_EQ(after.corrupt_count, 0);
  for (const SegmentRecord& record : Records(**recovered)) {
    const bool was_used = record.key == used.key;
    EXPECT_EQ(record.hit_count, was_used ? 5 : 0);
    EXPECT_EQ(record.last_used_unix_ms, was_used ? 77 : 0);
  }
  const auto visit = [](const PromptRecord& prompt) { EXPECT_EQ(prompt.id, 2u); };
  EXPECT_TRUE((*recovered)->ForEachPrompt(Identity(9), visit).ok());
}

// Writes until killed, noting each write that was acknowledged. The kill comes
// `round` quarters into the fourth write, as long as the third took.
void WriteUntilKilled(const std::string& path, const std::string& acknowledged, int round) {
  const auto store = OpenRocksDbStore({path});
  if (!store.ok()) _exit(1);
  const int fd = open(acknowledged.c_str(), O_WRONLY | O_APPEND | O_CREAT, 0644);
  auto last = std::chrono::steady_clock::now();
  for (int seed = 1;; ++seed) {
    if (!(*store)->WriteSegments({MakeWrite(seed, 1 + seed % 64)}).ok()) _exit(2);
    if (write(fd, &seed, sizeof(seed)) != sizeof(seed)) _exit(3);
    const auto now = std::chrono::steady_clock::now();
    const auto delay = (now - last) * round / 4;
    last = now;
    if (seed != 3) continue;
    std::thread([delay] {
      std::this_thread::sleep_for(delay);
      kill(getpid(), SIGKILL);
    }).detach();
  }
}

// A record is never durable before its segment, and acknowledged ones are durable.
TEST(RocksDbCrashDeathTest, AfterAKillEveryRecordHasItsSegmentAndNothingAcknowledgedIsLost) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // RocksDB's threads do not survive fork
  const std::string path = ::testing::TempDir() + "/rocksdb-killed";
  const std::string acknowledged = path + "-acknowledged";
  for (int round = 0; round < 4; ++round) {
    fs::remove_all(path);
    fs::remove(acknowledged);
    EXPECT_EXIT(WriteUntilKilled(path, acknowledged, round), ::testing::KilledBySignal(SIGKILL),
                "");
    auto store = OpenRocksDbStore({path});
    ASSERT_TRUE(store.ok()) << store.status();
    const std::vector<SegmentRecord> records = Records(**store);
    for (const SegmentRecord& record : records) EXPECT_TRUE(Read(**store, record).ok());
    const std::string seeds = ReadFile(acknowledged);
    EXPECT_GE(seeds.size(), 3 * sizeof(int));
    for (size_t at = 0; at + sizeof(int) <= seeds.size(); at += sizeof(int)) {
      int seed;
      std::memcpy(&seed, seeds.data() + at, sizeof(seed));
      const SegmentWrite write = MakeWrite(seed, 1 + seed % 64);
      std::vector<uint8_t> payload;
      EXPECT_TRUE(Read(**store, write.record, &payload).ok()) << seed;
      EXPECT_EQ(payload, write.payload) << seed;
    }
    store->reset();
    const KeyCounts keys = CountKeys(path);
    EXPECT_EQ(keys.segments, keys.records) << "no segment without a record stays";
  }
  fs::remove_all(path);
  fs::remove(acknowledged);
}

}  // namespace
}  // namespace reprise
