// What RocksDbStore promises about its files: damage is found, a folder has one owner.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/cleanup/cleanup.h"
#include "core/store/segment_codec.h"
#include "tests/unit/store/rocksdb_folder.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class RocksDbStoreTest : public RocksDbFolderTest {
 protected:
  void ExpectCannotOpen(const std::string& path, absl::StatusCode code) {
    const auto store = OpenRocksDbStore({path});
    EXPECT_EQ(store.status().code(), code) << store.status();
    EXPECT_THAT(std::string(store.status().message()), HasSubstr(path));
  }
};

TEST_F(RocksDbStoreTest, DamageOnDiskInAnyRegionIsDataLossOnceAndThenAMiss) {
  const SegmentWrite write = MakeWrite(1);
  const std::string value = EncodeSegment(write.record, write.payload);
  const std::pair<const char*, size_t> regions[] = {
      {"magic", 0},
      {"version", 4},
      {"checksum", 8},
      {"key", 24},
      {"parent", 56},
      {"identity", 88},
      {"kind", 120},
      {"position", 124},
      {"id count", 128},
      {"first id", 132},
      {"last id", 132 + 63 * 4},
      {"payload size", value.size() - kPayloadBytes - 8},
      {"first payload byte", value.size() - kPayloadBytes},
      {"last payload byte", value.size() - 1}};
  for (const auto& [region, offset] : regions) {
    fs::remove_all(path_);
    ASSERT_TRUE(Open()->WriteSegments({write}).ok());
    int damaged = 0;
    for (const auto& entry : fs::directory_iterator(path_)) {
      std::string bytes = ReadFile(entry.path());
      const size_t at = bytes.find(value);
      if (entry.path().extension() != ".blob" || at == std::string::npos) continue;
      bytes[at + offset] = static_cast<char>(bytes[at + offset] ^ 0x10);
      std::ofstream(entry.path(), std::ios::binary) << bytes;
      ++damaged;
    }
    ASSERT_EQ(damaged, 1) << "the segment lies in one blob file";
    const auto store = Open();
    EXPECT_EQ(Records(*store).size(), 1u);
    EXPECT_EQ(Read(*store, write.record).code(), absl::StatusCode::kDataLoss) << region;
    EXPECT_EQ(store->Stats().corrupt_count, 1) << region;
    EXPECT_EQ(Read(*store, write.record).code(), absl::StatusCode::kNotFound) << region;
    EXPECT_EQ(store->Stats().corrupt_count, 1) << "a miss is no damage: " << region;
    EXPECT_TRUE(Records(*store).empty()) << region;
  }
}

TEST_F(RocksDbStoreTest, ARecordWithoutItsSegmentIsAMissAndGoes) {
  const SegmentWrite gone = MakeWrite(1), kept = MakeWrite(2);
  ASSERT_TRUE(Open()->WriteSegments({gone, kept}).ok());
  EditDatabase(path_, [&](rocksdb::DB& db, auto* segments, auto*) {
    ASSERT_TRUE(db.Delete(rocksdb::WriteOptions(), segments, KeyOf(gone.record)).ok());
  });
  const auto store = Open();
  EXPECT_EQ(Records(*store).size(), 2u);
  EXPECT_EQ(Read(*store, gone.record).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store->Stats().corrupt_count, 0);
  ASSERT_EQ(Records(*store).size(), 1u);
  EXPECT_TRUE(Read(*store, kept.record).ok());
}

TEST_F(RocksDbStoreTest, ASegmentUnderAnothersKeyIsDataLoss) {
  const SegmentWrite one = MakeWrite(1), two = MakeWrite(2), foreign = MakeWrite(1, 64, 7);
  ASSERT_TRUE(Open()->WriteSegments({one, two, foreign}).ok());
  EditDatabase(path_, [&](rocksdb::DB& db, auto* segments, auto*) {
    for (const auto& [key, value] : {std::pair(one, two), std::pair(two, foreign)}) {
      const std::string bytes = EncodeSegment(value.record, value.payload);
      ASSERT_TRUE(db.Put(rocksdb::WriteOptions(), segments, KeyOf(key.record), bytes).ok());
    }
  });
  const auto store = Open();
  EXPECT_EQ(Read(*store, one.record).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Read(*store, two.record).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(Read(*store, foreign.record).ok());
}

TEST_F(RocksDbStoreTest, ARecordAtTheKeyOfAnotherIsCountedAndNotListed) {
  const SegmentWrite one = MakeWrite(1), two = MakeWrite(2), good = MakeWrite(3);
  ASSERT_TRUE(Open()->WriteSegments({one, two, good}).ok());
  const auto key = [](const SegmentWrite& write) {
    return std::string(AsText(write.record.identity)) + std::string(8, '\0') +
           std::string(AsText(write.record.key));
  };
  EditDatabase(path_, [&](rocksdb::DB& db, auto*, auto* records) {
    ASSERT_TRUE(db.Put(rocksdb::WriteOptions(), records, key(one), EncodeRecord(two.record)).ok());
    ASSERT_TRUE(db.Put(rocksdb::WriteOptions(), records, key(two), EncodeRecord(one.record)).ok());
  });
  const auto store = Open();
  EXPECT_EQ(store->Stats().corrupt_count, 2);
  ASSERT_EQ(Records(*store).size(), 1u);
  EXPECT_EQ(Records(*store)[0].key, good.record.key);
}

TEST_F(RocksDbStoreTest, UnreadableRecordsAreCountedAndTheRestIsListed) {
  const SegmentWrite good = MakeWrite(1);
  ASSERT_TRUE(Open()->WriteSegments({good}).ok());
  EditDatabase(path_, [&](rocksdb::DB& db, auto*, auto* records) {
    const std::string key = std::string(AsText(good.record.identity)) + "garbage";
    ASSERT_TRUE(db.Put(rocksdb::WriteOptions(), records, key, "garbage").ok());
  });
  const auto store = Open();
  EXPECT_EQ(store->Stats().segment_count, 1);
  EXPECT_EQ(Records(*store).size(), 1u);
  EXPECT_EQ(store->Stats().corrupt_count, 1);
  EXPECT_TRUE(Read(*store, good.record).ok());
}

TEST_F(RocksDbStoreTest, AnotherIdentitySeesNothing) {
  const SegmentWrite write = MakeWrite(1);
  const auto store = Open();
  ASSERT_TRUE(store->WriteSegments({write}).ok());
  EXPECT_TRUE(Records(*store, 8).empty());
  SegmentRecord asked = write.record;
  asked.identity = Identity(8);
  asked.parent = asked.identity;
  asked.key = ComputeSegmentKey(asked.kind, asked.parent, asked.ids);
  EXPECT_EQ(Read(*store, asked).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(Read(*store, write.record).ok()) << "the owner's stays";
}

TEST_F(RocksDbStoreTest, ReopeningKeepsEverything) {
  const std::vector<SegmentWrite> writes = {MakeWrite(1), MakeWrite(2, 5), MakeWrite(3, 63, 7)};
  PromptRecord prompt{42, Identity(9), {1, 2, 3}, {0.6f, 0.8f}, 123};
  StoreStats before;
  {
    const auto store = Open();
    ASSERT_TRUE(store->WriteSegments(writes).ok());
    ASSERT_TRUE(store->WritePrompt(prompt).ok());
    SegmentRecord used = writes[0].record;
    used.hit_count = 5;
    used.last_used_unix_ms = 77;
    ASSERT_TRUE(store->UpdateUsage({used}).ok());
    ASSERT_TRUE(store->DeleteSegments({writes[1].record.key}).ok());
    before = store->Stats();
  }
  const auto store = Open();
  EXPECT_EQ(store->Stats().segment_count, 2);
  EXPECT_EQ(store->Stats().payload_bytes, before.payload_bytes);
  EXPECT_EQ(store->Stats().prompt_count, 1);
  ASSERT_EQ(Records(*store).size(), 1u);
  const SegmentRecord record = Records(*store)[0];
  EXPECT_EQ(record.key, writes[0].record.key);
  EXPECT_EQ(record.ids, writes[0].record.ids);
  EXPECT_EQ(record.hit_count, 5);
  EXPECT_EQ(record.last_used_unix_ms, 77);
  std::vector<uint8_t> payload;
  ASSERT_TRUE(Read(*store, record, &payload).ok());
  EXPECT_EQ(payload, writes[0].payload);
  EXPECT_TRUE(Read(*store, writes[2].record).ok());
  EXPECT_EQ(Read(*store, writes[1].record).code(), absl::StatusCode::kNotFound);
  int prompts = 0;
  ASSERT_TRUE(store
                  ->ForEachPrompt(Identity(9),
                                  [&](PromptRecord found) {
                                    ++prompts;
                                    EXPECT_EQ(found.id, prompt.id);
                                    EXPECT_EQ(found.ids, prompt.ids);
                                    EXPECT_EQ(found.embedding, prompt.embedding);
                                    EXPECT_EQ(found.created_unix_ms, prompt.created_unix_ms);
                                  })
                  .ok());
  EXPECT_EQ(prompts, 1);
}

TEST_F(RocksDbStoreTest, WhatIsWrittenShowsInTheMemoryOfItsBuffers) {
  const auto store = Open();
  const int64_t before = store->Stats().buffer_bytes;
  for (int i = 0; i < 64; ++i) ASSERT_TRUE(store->WriteSegments({MakeWrite(i)}).ok());
  EXPECT_GT(store->Stats().buffer_bytes, before);
}

TEST_F(RocksDbStoreTest, RecordsComeParentsBeforeChildren) {
  const auto store = Open();
  SegmentWrite child = MakeWrite(1), root = MakeWrite(2), grandchild = MakeWrite(3);
  child.record.start_position = 64;
  grandchild.record.start_position = 64 * 300;
  ASSERT_TRUE(store->WriteSegments({grandchild, child, root}).ok());
  std::vector<int32_t> positions;
  for (const SegmentRecord& record : Records(*store)) positions.push_back(record.start_position);
  EXPECT_THAT(positions, ::testing::ElementsAre(0, 64, 64 * 300));
}

TEST_F(RocksDbStoreTest, AFolderHeldByAnotherProcessIsFailedPrecondition) {
  Open().reset();
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {  // only calls that are safe after fork
    const int fd = open((path_ + "/LOCK").c_str(), O_RDWR);
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    const bool held = fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0;
    if (write(ready[1], held ? "y" : "n", 1) == 1) pause();
    _exit(0);
  }
  const absl::Cleanup end_child = [&] {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(ready[0]);
    close(ready[1]);
  };
  char held = 'n';
  ASSERT_EQ(read(ready[0], &held, 1), 1);
  ASSERT_EQ(held, 'y');
  ExpectCannotOpen(path_, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(OpenRocksDbStore({path_}).status().message()),
              HasSubstr(absl::StrCat("(pid ", child, ")")));
}

TEST_F(RocksDbStoreTest, AFolderOpenedTwiceIsFailedPrecondition) {
  const auto store = Open();
  ExpectCannotOpen(path_, absl::StatusCode::kFailedPrecondition);
}

TEST_F(RocksDbStoreTest, AFolderThatCannotBeMadeOrReadIsUnavailable) {
  fs::create_directories(path_);
  std::ofstream(path_ + "/file") << "no folder";
  ExpectCannotOpen(path_ + "/file/below", absl::StatusCode::kUnavailable);
  ExpectCannotOpen(path_ + "/file", absl::StatusCode::kUnavailable);
  ExpectCannotOpen("/proc/reprise", absl::StatusCode::kUnavailable);
}

TEST_F(RocksDbStoreTest, ADamagedDatabaseIsUnavailableEvenWhereThePathSaysLock) {
  const std::string path = path_ + "/block-lock";
  ASSERT_TRUE(OpenRocksDbStore({path}).ok());
  std::ofstream(path + "/CURRENT") << "garbage";
  ExpectCannotOpen(path, absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace reprise
