// FaissIndex with the brute-force index as its oracle.
#include "core/similarity/faiss_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <thread>

#include "core/base/digest.h"
#include "core/similarity/brute_force_index.h"

namespace reprise {

bool operator==(const Neighbor& a, const Neighbor& b) {
  return a.id == b.id && a.similarity == b.similarity;
}
void PrintTo(const Neighbor& n, std::ostream* out) { *out << n.id << ":" << n.similarity; }

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kDimensions = 16;
using Vector = std::vector<float>;

// Entries of a quarter: products are exact, and many are equal.
Vector CoarseVector(std::mt19937& random) {
  Vector vector(kDimensions);
  for (float& value : vector) value = random() % 2 == 0 ? 0.25f : -0.25f;
  return vector;
}

Vector Axis(int i) {
  Vector vector(kDimensions);
  vector[i] = 1;
  return vector;
}

class FaissIndexTest : public ::testing::Test {
 protected:
  FaissIndexTest() : path_(::testing::TempDir() + "/faiss-" + std::to_string(getpid())) {}
  ~FaissIndexTest() override { std::filesystem::remove_all(path_); }

  void AddToBoth(uint64_t id, const Vector& vector) {
    ASSERT_TRUE(index_->Add(id, vector).ok());
    ASSERT_TRUE(oracle_->Add(id, vector).ok());
  }

  void ExpectSame(const VectorIndex& index, const Vector& query, int count) {
    const auto found = index.Search(query, count);
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_EQ(*found, *oracle_->Search(query, count)) << "count " << count;
  }

  const std::string path_;
  std::unique_ptr<VectorIndex> index_ = CreateFaissIndex(kDimensions);
  std::unique_ptr<VectorIndex> oracle_ = CreateBruteForceIndex(kDimensions);
};

TEST_F(FaissIndexTest, AnswersAsBruteForceThroughAddsReplacementsAndRemovals) {
  std::mt19937 random(5);
  for (int step = 0; step < 3000; ++step) {
    const uint64_t id = random() % 150;
    if (random() % 3 != 0) {
      AddToBoth(id, CoarseVector(random));
    } else {
      ASSERT_TRUE(index_->Remove(id).ok());
      ASSERT_TRUE(oracle_->Remove(id).ok());
    }
    ASSERT_EQ(index_->Ids(), oracle_->Ids());
    for (uint64_t id = 0; id < 3; ++id) EXPECT_EQ(index_->Contains(id), oracle_->Contains(id));
    ASSERT_EQ(index_->size(), oracle_->size());
    ExpectSame(*index_, CoarseVector(random), static_cast<int>(random() % 20));
  }
  for (const int count : {-1, 0, 1, 149, 1000, std::numeric_limits<int>::max()}) {
    ExpectSame(*index_, CoarseVector(random), count);
  }
}

TEST_F(FaissIndexTest, EqualSimilaritiesComeByLowerIdHoweverManyThereAre) {
  for (int id = 300; id > 0; --id) AddToBoth(id, Axis(0));
  AddToBoth(1000, Axis(1));
  EXPECT_THAT(*index_->Search(Axis(0), 3),
              ElementsAre(Neighbor{1, 1}, Neighbor{2, 1}, Neighbor{3, 1}));
  for (const int count : {1, 16, 17, 100, 300, 301}) {
    ExpectSame(*index_, Axis(0), count);
    ExpectSame(*index_, Axis(1), count);
  }
}

TEST_F(FaissIndexTest, KeepsIdsOfAll64Bits) {
  for (const uint64_t id : {uint64_t{0}, uint64_t{1} << 63, UINT64_MAX}) AddToBoth(id, Axis(2));
  ExpectSame(*index_, Axis(2), 3);
  ASSERT_TRUE(index_->Remove(UINT64_MAX).ok());
  EXPECT_THAT(index_->Ids(), ElementsAre(0, uint64_t{1} << 63));
}

TEST_F(FaissIndexTest, AnEmptyIndexHasNoNeighbors) {
  EXPECT_TRUE(index_->Search(Axis(0), 5)->empty());
  EXPECT_TRUE(index_->Remove(7).ok());
  AddToBoth(7, Axis(0));
  ASSERT_TRUE(index_->Remove(7).ok());
  EXPECT_EQ(index_->size(), 0);
  EXPECT_TRUE(index_->Search(Axis(0), 5)->empty());
}

TEST_F(FaissIndexTest, RefusesWhatIsNoUnitVectorAndStaysAsItWas) {
  AddToBoth(1, Axis(0));
  Vector nan = Axis(0), infinite = Axis(0), longer = Axis(0);
  nan[3] = std::numeric_limits<float>::quiet_NaN();
  infinite[3] = std::numeric_limits<float>::infinity();
  longer[3] = 0.5;
  for (const Vector& bad :
       {Vector(), Vector(kDimensions - 1, 0.25f), Vector(kDimensions + 1, 0.25f),
        Vector(kDimensions), nan, infinite, longer}) {
    for (VectorIndex* index : {index_.get(), oracle_.get()}) {
      EXPECT_EQ(index->Add(1, bad).code(), absl::StatusCode::kInvalidArgument);
      EXPECT_EQ(index->Add(2, bad).code(), absl::StatusCode::kInvalidArgument);
      EXPECT_EQ(index->Search(bad, 1).status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(index->Ids(), ElementsAre(1));
    }
  }
  ExpectSame(*index_, Axis(0), 2);
}

TEST_F(FaissIndexTest, ComesBackFromItsFile) {
  std::mt19937 random(6);
  for (uint64_t id = 1; id < 200; id += 3) AddToBoth(id, CoarseVector(random));
  ASSERT_TRUE(index_->Save(path_).ok());
  const auto loaded = LoadFaissIndex(path_, kDimensions);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->Ids(), oracle_->Ids());
  for (int i = 0; i < 50; ++i) ExpectSame(**loaded, CoarseVector(random), 10);
  ASSERT_TRUE((*loaded)->Remove(1).ok());
  ASSERT_TRUE((*loaded)->Save(path_).ok()) << "over the older file";
  EXPECT_EQ((*LoadFaissIndex(path_, kDimensions))->size(), oracle_->size() - 1);
}

TEST_F(FaissIndexTest, AnEmptyIndexComesBackEmpty) {
  ASSERT_TRUE(index_->Save(path_).ok());
  const auto loaded = LoadFaissIndex(path_, kDimensions);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->size(), 0);
}

TEST_F(FaissIndexTest, RefusesEveryDamagedByteAndEveryTruncation) {
  AddToBoth(3, Axis(0));
  AddToBoth(4, Axis(1));
  ASSERT_TRUE(index_->Save(path_).ok());
  std::ifstream file(path_, std::ios::binary);
  const std::string whole(std::istreambuf_iterator<char>(file), {});
  const auto expect_refused = [&](const std::string& bytes, size_t at) {
    std::ofstream(path_, std::ios::binary) << bytes;
    const absl::Status status = LoadFaissIndex(path_, kDimensions).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << "byte " << at;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
  };
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x40);
    expect_refused(damaged, at);
    expect_refused(whole.substr(0, at), at);
  }
  expect_refused(whole + "x", whole.size());
}

// Damage with a checksum that is right for it.
TEST_F(FaissIndexTest, RefusesAForgedFileWithVectorsThatAreNone) {
  AddToBoth(3, Axis(0));
  ASSERT_TRUE(index_->Save(path_).ok());
  std::ifstream file(path_, std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(file), {});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + bytes.size() - sizeof(nan), &nan, sizeof(nan));
  const size_t body = bytes.size() - sizeof(uint64_t) - 1 - kDimensions * sizeof(float);
  const Checksum128 checksum = Xxh3Checksum({AsBytes(bytes).subspan(body)});
  std::memcpy(bytes.data() + body - sizeof(checksum), &checksum, sizeof(checksum));
  std::ofstream(path_, std::ios::binary) << bytes;
  const absl::Status status = LoadFaissIndex(path_, kDimensions).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("squared length nan"));
}

TEST_F(FaissIndexTest, RefusesAFileOfOtherDimensionsAndAMissingOne) {
  EXPECT_EQ(LoadFaissIndex(path_, kDimensions).status().code(), absl::StatusCode::kNotFound);
  AddToBoth(3, Axis(0));
  ASSERT_TRUE(index_->Save(path_).ok());
  const absl::Status status = LoadFaissIndex(path_, kDimensions * 2).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("16 dimensions, expected 32"));
}

TEST_F(FaissIndexTest, ReportsAFileThatCannotBeWrittenAndNamesIt) {
  const absl::Status status = index_->Save(path_ + "/missing/index");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
}

}  // namespace
}  // namespace reprise
