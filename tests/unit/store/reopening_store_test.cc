// A store whose disk fails and comes back.
#include "core/store/reopening_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/fakes/faulty_store.h"
#include "tests/unit/store/rocksdb_folder.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

class ReopeningStoreTest : public RocksDbFolderTest {
 protected:
  StoreFactory Factory() {
    return [this]() -> absl::StatusOr<std::unique_ptr<KvStore>> {
      ++openings_;
      auto store = OpenRocksDbStore({path_});
      if (!store.ok()) return store.status();
      return CreateFaultyStore(*std::move(store), faults_);
    };
  }
  std::unique_ptr<KvStore> Create() { return CreateReopeningStore(Factory()(), Factory()); }

  static absl::Status List(KvStore& store) {
    return store.ForEachSegment(Identity(9), [](const SegmentRecord&) {});
  }

  // Makes the folder's place a file, so that nothing can be opened there.
  void BlockFolder() { std::ofstream(path_) << "no folder"; }

  const std::shared_ptr<StoreFaults> faults_ = std::make_shared<StoreFaults>();
  int openings_ = 0;
};

TEST_F(ReopeningStoreTest, StoreThatDoesNotOpenSaysSoOnceAndIsTriedAtEachLaterListing) {
  BlockFolder();
  const auto store = Create();
  for (int listings = 1; listings <= 3; ++listings) {
    const absl::Status listed = List(*store);
    EXPECT_EQ(listed.code(), kUnavailable);
    EXPECT_THAT(std::string(listed.message()), HasSubstr(path_));
    EXPECT_EQ(openings_, listings) << "the first listing tells of the first opening";
    EXPECT_EQ(store->WriteSegments({MakeWrite(1)}).code(), kUnavailable);
    EXPECT_EQ(Read(*store, MakeWrite(1).record).code(), kUnavailable);
    EXPECT_EQ(store->EvictOthers({Identity(9)}, 0).status().code(), kUnavailable);
    EXPECT_EQ(store->Stats().segment_count, 0);
  }
  fs::remove(path_);
  EXPECT_TRUE(List(*store).ok());
  EXPECT_TRUE(store->WriteSegments({MakeWrite(1)}).ok());
  EXPECT_TRUE(Read(*store, MakeWrite(1).record).ok());
}

TEST_F(ReopeningStoreTest, StoreThatWorksIsNotOpenedAgain) {
  const auto store = Create();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(List(*store).ok());
  EXPECT_EQ(openings_, 1);
}

TEST_F(ReopeningStoreTest, StoreWhoseFolderWentIsMadeAnewAtTheNextListing) {
  const auto store = Create();
  ASSERT_TRUE(store->WriteSegments({MakeWrite(1)}).ok());
  ASSERT_TRUE(Read(*store, MakeWrite(1).record).ok());
  fs::remove_all(path_);
  EXPECT_EQ(store->WriteSegments({MakeWrite(2)}).code(), kUnavailable);
  EXPECT_TRUE(List(*store).ok());
  EXPECT_EQ(Read(*store, MakeWrite(1).record).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(store->WriteSegments({MakeWrite(2)}).ok());
  EXPECT_EQ(store->Stats().read_bytes, kPayloadBytes) << "counted over all openings";
  EXPECT_EQ(store->Stats().written_bytes, 2 * kPayloadBytes);
}

// What a database says once it has found its own files damaged.
TEST_F(ReopeningStoreTest, DamageOfADatabaseLeadsToANewOpeningAndThatOfASegmentDoesNot) {
  const auto store = Create();
  ASSERT_TRUE(store->WriteSegments({MakeWrite(1)}).ok());
  faults_->set_code(absl::StatusCode::kDataLoss);
  faults_->Fail(StoreOperation::kReadSegment, 1);
  EXPECT_EQ(Read(*store, MakeWrite(1).record).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Read(*store, MakeWrite(2).record).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(List(*store).ok());
  EXPECT_EQ(openings_, 1);
  faults_->Fail(StoreOperation::kWriteSegments, 1);
  EXPECT_EQ(store->WriteSegments({MakeWrite(2)}).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(List(*store).ok());
  EXPECT_EQ(openings_, 2);
}

TEST_F(ReopeningStoreTest, FailedCallsLeadToANewOpeningThatKeepsWhatIsStored) {
  const auto store = Create();
  ASSERT_TRUE(store->WriteSegments({MakeWrite(1)}).ok());
  faults_->Fail(StoreOperation::kReadSegment, 1);
  EXPECT_EQ(Read(*store, MakeWrite(1).record).code(), kUnavailable);
  EXPECT_EQ(openings_, 1) << "only a listing opens";
  EXPECT_TRUE(List(*store).ok());
  EXPECT_EQ(openings_, 2);
  EXPECT_TRUE(Read(*store, MakeWrite(1).record).ok());
}

TEST_F(ReopeningStoreTest, FolderThatAnotherHoldsIsTriedAgain) {
  const auto other = Open();
  const auto store = Create();
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(List(*store).code(), i == 0 ? absl::StatusCode::kFailedPrecondition : kUnavailable);
}

TEST_F(ReopeningStoreTest, StoreWithAStuckCallIsNotClosedUnderIt) {
  const auto store = Create();
  ASSERT_TRUE(store->WriteSegments({MakeWrite(1)}).ok());
  faults_->Fail(StoreOperation::kWritePrompt, 1);
  EXPECT_EQ(store->WritePrompt({1, Identity(9), {1}, {1.0f}, 0}).code(), kUnavailable);
  Gate& gate = faults_->gate(StoreOperation::kReadSegment);
  gate.Close();
  absl::Status read;
  std::thread reader([&] { read = Read(*store, MakeWrite(1).record); });
  gate.AwaitWaiter();
  EXPECT_EQ(List(*store).code(), kUnavailable);
  EXPECT_EQ(openings_, 1);
  gate.Open();
  reader.join();
  EXPECT_TRUE(read.ok()) << read;
  EXPECT_TRUE(List(*store).ok());
  EXPECT_EQ(openings_, 2);
}

}  // namespace
}  // namespace reprise
