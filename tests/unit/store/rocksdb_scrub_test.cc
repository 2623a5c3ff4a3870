// What a scrub says of a folder, and what a repair leaves in it.
#include "core/store/rocksdb_scrub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/store/segment_codec.h"
#include "tests/unit/store/rocksdb_folder.h"

namespace reprise {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

rocksdb::WriteOptions Unlogged() { return {}; }

class RocksDbScrubTest : public RocksDbFolderTest {
 protected:
  void Write(const std::vector<SegmentWrite>& writes) {
    const auto store = Open();
    ASSERT_TRUE(store->WriteSegments(writes).ok());
    ASSERT_TRUE(store->WritePrompt({7, Identity(9), {1, 2}, {1.0f}, 0}).ok());
  }

  ScrubReport Run(bool repair = false) {
    const auto report = ScrubRocksDbStore({.path = path_, .repair = repair});
    EXPECT_TRUE(report.ok()) << report.status();
    return report.value_or(ScrubReport());
  }

  // Finds `damaged` things and the sound rest, without changing anything; then repairs.
  void ExpectFoundAndRepaired(int64_t damaged, int64_t sound_segments, int64_t sound_prompts = 1) {
    for (const bool repair : {false, false, true}) {
      const ScrubReport report = Run(repair);
      EXPECT_EQ(report.damaged(), damaged);
      EXPECT_EQ(report.named.size(), static_cast<size_t>(damaged));
      EXPECT_EQ(report.segments, sound_segments);
      EXPECT_EQ(report.payload_bytes, sound_segments * kPayloadBytes);
      EXPECT_EQ(report.prompts, sound_prompts);
      EXPECT_EQ(report.repaired, repair);
    }
    EXPECT_EQ(Run().damaged(), 0);
    const KeyCounts keys = CountKeys(path_);
    EXPECT_EQ(keys.segments, sound_segments);
    EXPECT_EQ(keys.records, sound_segments);
  }

  static std::string RecordKeyOf(const SegmentRecord& record) {
    return std::string(AsText(record.identity)) + std::string(8, '\0') +
           std::string(AsText(record.key));
  }
};

TEST_F(RocksDbScrubTest, ASoundStoreIsCountedAndLeftAsItIs) {
  Write({MakeWrite(1), MakeWrite(2, 5), MakeWrite(3, 64, 7)});
  ExpectFoundAndRepaired(0, 3);
  const auto store = Open();
  for (const SegmentWrite& write : {MakeWrite(1), MakeWrite(2, 5), MakeWrite(3, 64, 7)}) {
    EXPECT_TRUE(Read(*store, write.record).ok());
  }
}

TEST_F(RocksDbScrubTest, DamagedAndSwappedSegmentsAreNamedAndRemoved) {
  const SegmentWrite flipped = MakeWrite(1), cut = MakeWrite(2), one = MakeWrite(3, 9),
                     two = MakeWrite(4, 9), sound = MakeWrite(5);
  Write({flipped, cut, one, two, sound});
  const auto value = [](const SegmentWrite& w) { return EncodeSegment(w.record, w.payload); };
  EditDatabase(path_, [&](rocksdb::DB& db, auto* segments, auto*) {
    std::string bytes = value(flipped);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
    ASSERT_TRUE(db.Put(Unlogged(), segments, KeyOf(flipped.record), bytes).ok());
    bytes = value(cut).substr(0, 500);
    ASSERT_TRUE(db.Put(Unlogged(), segments, KeyOf(cut.record), bytes).ok());
    ASSERT_TRUE(db.Put(Unlogged(), segments, KeyOf(one.record), value(two)).ok());
    ASSERT_TRUE(db.Put(Unlogged(), segments, KeyOf(two.record), value(one)).ok());
  });
  EXPECT_THAT(Run().named, ::testing::Contains(AllOf(HasSubstr(ToHex(flipped.record.key)),
                                                     HasSubstr("checksum mismatch"),
                                                     HasSubstr("tokens 0 to 64"))));
  ExpectFoundAndRepaired(4, 1);
  EXPECT_TRUE(Read(*Open(), sound.record).ok());
}

TEST_F(RocksDbScrubTest, RecordsAndSegmentsWithoutEachOtherAreFoundAndRemoved) {
  const SegmentWrite no_segment = MakeWrite(1), no_record = MakeWrite(2), renamed = MakeWrite(3),
                     sound = MakeWrite(4);
  Write({no_segment, no_record, renamed, sound});
  Write({sound});  // the doubts of the first write end
  Write({sound});
  EditDatabase(path_, [&](rocksdb::DB& db, auto* segments, auto* records) {
    ASSERT_TRUE(db.Delete(Unlogged(), segments, KeyOf(no_segment.record)).ok());
    ASSERT_TRUE(db.Delete(Unlogged(), records, RecordKeyOf(no_record.record)).ok());
    // A record whose checksum is right and whose key is not that of its tokens.
    SegmentRecord lie = renamed.record;
    lie.ids[0] += 1;
    ASSERT_TRUE(db.Put(Unlogged(), records, RecordKeyOf(renamed.record), EncodeRecord(lie)).ok());
  });
  const ScrubReport report = Run();
  EXPECT_EQ(report.missing, 1);
  EXPECT_EQ(report.damaged_records, 1);
  EXPECT_EQ(report.orphans, 2) << "the segment whose record lies has none";
  ExpectFoundAndRepaired(4, 1);
}

TEST_F(RocksDbScrubTest, UnreadableRecordsAndPromptsAreFoundAndRemoved) {
  const SegmentWrite sound = MakeWrite(1);
  Write({sound});
  EditDatabase(path_, [&](rocksdb::DB& db, auto*, auto* records) {
    ASSERT_TRUE(db.Put(Unlogged(), records, "garbage", "garbage").ok());
  });
  const ScrubReport report = Run();
  EXPECT_EQ(report.damaged_records, 1);
  EXPECT_EQ(report.named.size(), 1u);
  ExpectFoundAndRepaired(1, 1);
}

// As after a crash between a segment and its record.
TEST_F(RocksDbScrubTest, WhatACrashLeftInDoubtIsNoDamage) {
  const SegmentWrite cut_short = MakeWrite(1), sound = MakeWrite(2);
  Write({cut_short, sound});
  EditDatabase(path_, [&](rocksdb::DB& db, auto*, auto* records) {
    ASSERT_TRUE(db.Delete(Unlogged(), records, RecordKeyOf(cut_short.record)).ok());
  });
  const ScrubReport report = Run();
  EXPECT_EQ(report.in_doubt, 1);
  EXPECT_EQ(report.damaged(), 0);
  Open().reset();
  EXPECT_EQ(Run().in_doubt, 0);
}

TEST_F(RocksDbScrubTest, ASegmentWithoutTheOneBeforeItIsUnreachableAndNoDamage) {
  SegmentWrite child = MakeWrite(1);
  child.record.start_position = 64;
  child.record.parent = MakeWrite(2).record.key;
  child.record.key = ComputeSegmentKey(child.record.kind, child.record.parent, child.record.ids);
  Write({child});
  EXPECT_EQ(Run().unreachable, 1);
  EXPECT_EQ(Run().damaged(), 0);
  Write({MakeWrite(2)});
  EXPECT_EQ(Run().unreachable, 0);
}

TEST_F(RocksDbScrubTest, SegmentsOfABlobFileThatCannotBeReadAreAllDamaged) {
  Write({MakeWrite(1), MakeWrite(2)});
  Write({MakeWrite(3)});
  int cut = 0;
  for (const auto& entry : fs::directory_iterator(path_)) {
    const bool first =
        ReadFile(entry.path()).find(std::string(AsText(MakeWrite(1).payload))) != std::string::npos;
    if (entry.path().extension() != ".blob" || !first) continue;
    fs::resize_file(entry.path(), 100);
    ++cut;
  }
  ASSERT_EQ(cut, 1);
  const ScrubReport report = Run();
  EXPECT_EQ(report.damaged_segments, 2);
  EXPECT_EQ(report.segments, 1);
  EXPECT_EQ(Run(/*repair=*/true).damaged(), 2);
  EXPECT_EQ(Run().damaged(), 0);
  EXPECT_TRUE(Read(*Open(), MakeWrite(3).record).ok());
}

TEST_F(RocksDbScrubTest, AFolderInUseOrWithoutAStoreIsRefusedByName) {
  EXPECT_EQ(ScrubRocksDbStore({.path = path_}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(fs::exists(path_)) << "nothing is made";
  const auto store = Open();
  for (const bool repair : {false, true}) {
    const auto refused = ScrubRocksDbStore({.path = path_, .repair = repair});
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(path_));
  }
  EXPECT_TRUE(store->WriteSegments({MakeWrite(1)}).ok());
}

}  // namespace
}  // namespace reprise
