#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "core/store/memory_store.h"
#include "core/store/rocksdb_store.h"
#include "core/store/segment_codec.h"

namespace reprise {
namespace {

SegmentWrite MakeWrite(uint8_t seed, int tokens) {
  SegmentWrite write;
  write.record.kind = tokens == kSegmentTokens ? SegmentKind::kFull : SegmentKind::kTail;
  write.record.identity.fill(9);
  write.record.parent = write.record.identity;
  for (int i = 0; i < tokens; ++i) write.record.ids.push_back(seed * 100 + i);
  write.record.key = ComputeSegmentKey(write.record.kind, write.record.parent, write.record.ids);
  write.payload.assign(1000, seed);
  write.record.payload_bytes = 1000;
  return write;
}

class StoreTest : public ::testing::TestWithParam<bool> {
 protected:
  StoreTest() : path_(::testing::TempDir() + "/store-" + std::to_string(getpid())) {
    if (!GetParam()) path_ += "-memory";
    Open();
  }

  void Open() {
    store_.reset();
    if (!GetParam()) {
      store_ = CreateMemoryStore();
      return;
    }
    auto store = OpenRocksDbStore({path_ + "-" + std::to_string(++count_)});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  static inline int count_ = 0;
  std::string path_;
  std::unique_ptr<KvStore> store_;
};

TEST_P(StoreTest, ReadsBackWhatWasWritten) {
  const SegmentWrite write = MakeWrite(1, kSegmentTokens);
  ASSERT_TRUE(store_->WriteSegments({write}).ok());
  std::vector<uint8_t> out(1000);
  ASSERT_TRUE(store_->ReadSegment(write.record, absl::MakeSpan(out)).ok());
  EXPECT_EQ(out, write.payload);
  EXPECT_EQ(store_->Stats().read_bytes, 1000);
  EXPECT_EQ(store_->Stats().segment_count, 1);
}

TEST_P(StoreTest, RefusesASegmentThatIsNotWhatTheRecordSays) {
  const SegmentWrite write = MakeWrite(1, 5);
  ASSERT_TRUE(store_->WriteSegments({write}).ok());
  SegmentRecord other = write.record;
  other.ids[0] += 1;
  std::vector<uint8_t> out(1000);
  EXPECT_EQ(store_->ReadSegment(other, absl::MakeSpan(out)).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store_->Stats().corrupt_count, 1);
  EXPECT_EQ(store_->Stats().segment_count, 0) << "a bad segment is quarantined";
}

TEST_P(StoreTest, ListsOnlyItsIdentity) {
  ASSERT_TRUE(store_->WriteSegments({MakeWrite(1, 5), MakeWrite(2, kSegmentTokens)}).ok());
  int count = 0;
  Digest identity;
  identity.fill(9);
  ASSERT_TRUE(store_->ForEachSegment(identity, [&](const SegmentRecord&) { ++count; }).ok());
  EXPECT_EQ(count, 2);
  identity.fill(8);
  ASSERT_TRUE(store_->ForEachSegment(identity, [&](const SegmentRecord&) { ++count; }).ok());
  EXPECT_EQ(count, 2);
}

TEST_P(StoreTest, ForgetsDeletedSegments) {
  const SegmentWrite write = MakeWrite(1, 5);
  ASSERT_TRUE(store_->WriteSegments({write}).ok());
  ASSERT_TRUE(store_->DeleteSegments({write.record.key}).ok());
  std::vector<uint8_t> out(1000);
  EXPECT_EQ(store_->ReadSegment(write.record, absl::MakeSpan(out)).code(),
            absl::StatusCode::kNotFound);
}

TEST_P(StoreTest, EvictsOthersLeastRecentlyUsedFirstAndTheirPromptsWithTheLast) {
  Digest own, one, two;
  own.fill(9);
  one.fill(1);
  two.fill(2);
  const auto write = [&](uint8_t seed, const Digest& identity, int64_t used, int32_t position = 0) {
    SegmentWrite segment = MakeWrite(seed, kSegmentTokens);
    segment.record.identity = identity;
    segment.record.last_used_unix_ms = used;
    segment.record.start_position = position;
    EXPECT_TRUE(store_->WriteSegments({segment}).ok());
  };
  const auto count = [&](const Digest& identity) {
    int segments = 0, prompts = 0;
    EXPECT_TRUE(store_->ForEachSegment(identity, [&](const SegmentRecord&) { ++segments; }).ok());
    EXPECT_TRUE(store_->ForEachPrompt(identity, [&](const PromptRecord&) { ++prompts; }).ok());
    return std::pair(segments, prompts);
  };
  for (const Digest& identity : {own, one, two}) {
    ASSERT_TRUE(store_->WritePrompt({1, identity, {1, 2}, {1.0f}, 0}).ok());
  }
  write(1, own, 0);
  write(2, one, 5, 64);
  write(3, one, 5, 0);
  write(4, two, 3);
  struct Case {
    int64_t max_bytes, evicted;
    std::pair<int, int> one, two;  // segments and prompts that stay
  };
  for (const Case& c : {Case{3000, 0, {2, 1}, {1, 1}}, Case{2999, 1, {2, 1}, {0, 0}},
                        Case{1000, 1, {1, 1}, {0, 0}}, Case{0, 1, {0, 0}, {0, 0}}}) {
    const auto evicted = store_->EvictOthers({own}, c.max_bytes);
    ASSERT_TRUE(evicted.ok()) << evicted.status();
    EXPECT_EQ(evicted->segments, c.evicted) << c.max_bytes;
    EXPECT_EQ(evicted->payload_bytes, c.evicted * 1000) << c.max_bytes;
    EXPECT_EQ(count(one), c.one) << c.max_bytes;
    EXPECT_EQ(count(two), c.two) << c.max_bytes;
    EXPECT_EQ(count(own), std::pair(1, 1)) << c.max_bytes;
    if (c.one.first != 1) continue;
    const auto parent = [](const SegmentRecord& record) { EXPECT_EQ(record.start_position, 0); };
    EXPECT_TRUE(store_->ForEachSegment(one, parent).ok());
  }
  EXPECT_EQ(store_->Stats().segment_count, 1);
  EXPECT_EQ(store_->Stats().prompt_count, 1);
  EXPECT_EQ(store_->Stats().payload_bytes, 1000);
}

INSTANTIATE_TEST_SUITE_P(All, StoreTest, ::testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "RocksDb" : "Memory");
});

TEST(SegmentCodecTest, DetectsEverySingleBitFlip) {
  SegmentWrite write = MakeWrite(3, 5);
  write.payload.resize(40);
  const std::string value = EncodeSegment(write.record, write.payload);
  std::vector<uint8_t> out(40);
  ASSERT_TRUE(DecodeSegment(AsBytes(value), write.record, absl::MakeSpan(out)).ok());
  for (size_t bit = 0; bit < value.size() * 8; ++bit) {
    std::string damaged = value;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(DecodeSegment(AsBytes(damaged), write.record, absl::MakeSpan(out)).code(),
              absl::StatusCode::kDataLoss)
        << "bit " << bit;
  }
}

TEST(SegmentCodecTest, RefusesEveryTruncation) {
  const SegmentWrite write = MakeWrite(3, 5);
  const std::string value = EncodeRecord(write.record);
  ASSERT_TRUE(DecodeRecord(AsBytes(value)).ok());
  for (size_t size = 0; size < value.size(); ++size) {
    EXPECT_FALSE(DecodeRecord(AsBytes(value.substr(0, size))).ok()) << size;
  }
}

TEST(SegmentCodecTest, ARecordWrittenWithoutMarksHasNone) {
  SegmentRecord record = MakeWrite(3, 5).record;
  record.pinned = true;
  record.expires_unix_ms = 7;
  constexpr size_t kMarkBytes = sizeof(uint8_t) + sizeof(record.expires_unix_ms);
  constexpr size_t kChecksumAt = 2 * sizeof(uint32_t);
  std::string value = EncodeRecord(record);
  value.resize(value.size() - kMarkBytes);
  const Checksum128 checksum =
      Xxh3Checksum({AsBytes(value).subspan(kChecksumAt + sizeof(Checksum128))});
  std::memcpy(value.data() + kChecksumAt, &checksum, sizeof(checksum));
  const auto read = DecodeRecord(AsBytes(value));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->key, record.key);
  EXPECT_FALSE(read->pinned);
  EXPECT_EQ(read->expires_unix_ms, 0);
}

}  // namespace
}  // namespace reprise
