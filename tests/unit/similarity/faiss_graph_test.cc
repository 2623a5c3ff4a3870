// FaissIndex over more vectors than it scans: its graph, with the brute-force index as oracle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "core/base/digest.h"
#include "core/similarity/brute_force_index.h"
#include "core/similarity/faiss_index.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

constexpr int kDimensions = 32;
using Vector = std::vector<float>;

// Small enough that a few hundred vectors go through all it does.
FaissIndexOptions SmallOptions() {
  return {.graph_from = 200, .max_dead_percent = 20, .max_beside = 16, .search_width = 40};
}

class FaissGraphTest : public ::testing::Test {
 protected:
  FaissGraphTest() : path_(::testing::TempDir() + "/graph-" + std::to_string(getpid())) {
    for (Vector& center : centers_) center = Noise(1.0f);
  }
  ~FaissGraphTest() override { std::filesystem::remove_all(path_); }

  Vector Noise(float scale) {
    std::normal_distribution<float> normal;
    Vector vector(kDimensions);
    for (float& value : vector) value = scale * normal(random_);
    return vector;
  }

  // A unit vector near one of the centers.
  Vector Sample() {
    Vector vector = Noise(0.5f);
    const Vector& center = centers_[random_() % centers_.size()];
    float squares = 0;
    for (int i = 0; i < kDimensions; ++i) {
      vector[i] += center[i];
      squares += vector[i] * vector[i];
    }
    for (float& value : vector) value /= std::sqrt(squares);
    return vector;
  }

  void Add(uint64_t id) {
    const Vector vector = Sample();
    ASSERT_TRUE(index_->Add(id, vector).ok());
    ASSERT_TRUE(oracle_->Add(id, vector).ok());
  }
  void Remove(uint64_t id) {
    ASSERT_TRUE(index_->Remove(id).ok());
    ASSERT_TRUE(oracle_->Remove(id).ok());
  }
  void AddRange(uint64_t from, uint64_t to) {
    for (uint64_t id = from; id < to; ++id) Add(id);
  }

  // The share of the ten nearest that the index finds; each it names must be as near as the
  // oracle says.
  double Recall(const VectorIndex& index, int queries = 100) {
    int found = 0, all = 0;
    for (int i = 0; i < queries; ++i) {
      const Vector query = Sample();
      const auto near = *index.Search(query, 10);
      const auto truth = *oracle_->Search(query, static_cast<int>(oracle_->size()));
      const size_t wanted = std::min<size_t>(10, truth.size());
      EXPECT_EQ(near.size(), wanted);
      for (const Neighbor& neighbor : near) {
        const auto same = std::find_if(truth.begin(), truth.end(), [&](const Neighbor& other) {
          return other.id == neighbor.id;
        });
        EXPECT_NE(same, truth.end()) << "deleted: " << neighbor.id;
        if (same == truth.end()) continue;
        EXPECT_NEAR(same->similarity, neighbor.similarity, 1e-5);
        found += same < truth.begin() + static_cast<int64_t>(wanted) ? 1 : 0;
      }
      all += static_cast<int>(wanted);
    }
    return static_cast<double>(found) / all;
  }

  std::string SavedBytes() {
    EXPECT_TRUE(index_->Save(path_).ok());
    std::ifstream file(path_, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  std::mt19937 random_{3};
  std::array<Vector, 20> centers_;
  const std::string path_;
  std::unique_ptr<FaissIndex> index_ = CreateFaissIndex(kDimensions, SmallOptions());
  std::unique_ptr<VectorIndex> oracle_ = CreateBruteForceIndex(kDimensions);
};

TEST_F(FaissGraphTest, FewVectorsAreScannedAndManyHaveAGraph) {
  AddRange(0, 199);
  index_->AwaitBuilt();
  EXPECT_EQ(index_->State().in_graph, 0);
  EXPECT_EQ(Recall(*index_), 1);
  Add(199);
  index_->AwaitBuilt();
  EXPECT_EQ(index_->State().in_graph, 200);
  EXPECT_EQ(index_->State().beside, 0);
}

TEST_F(FaissGraphTest, FindsTheNearestThroughAddsReplacementsAndRemovals) {
  for (int step = 0; step < 6000; ++step) {
    const uint64_t id = random_() % 3000;
    random_() % 4 != 0 ? Add(id) : Remove(id);
    if (step % 1000 == 999) {
      EXPECT_GE(Recall(*index_, 20), 0.97) << "whatever is being built";
    }
  }
  index_->AwaitBuilt();
  EXPECT_GT(index_->State().in_graph, 1000);
  EXPECT_EQ(index_->Ids(), oracle_->Ids());
  EXPECT_GE(Recall(*index_, 300), 0.99);
}

TEST_F(FaissGraphTest, NewVectorsAreFoundAtOnceAndTakenInOnceTheyAreMany) {
  AddRange(0, 300);
  index_->AwaitBuilt();
  AddRange(300, 316);
  index_->AwaitBuilt();
  EXPECT_EQ(index_->State().beside, 16);
  const Vector query = Sample();
  ASSERT_TRUE(index_->Add(1000, query).ok());
  EXPECT_EQ(index_->Search(query, 1)->front().id, 1000);
  index_->AwaitBuilt();
  EXPECT_EQ(index_->State().in_graph, 317);
}

TEST_F(FaissGraphTest, DeletionsAreTombstonesUntilTheyAreTooMany) {
  AddRange(0, 1000);
  index_->AwaitBuilt();
  for (uint64_t id = 0; id < 200; ++id) Remove(id);
  index_->AwaitBuilt();
  EXPECT_EQ(index_->State().dead, 200);
  EXPECT_GE(Recall(*index_), 0.99);
  Remove(200);
  index_->AwaitBuilt();
  EXPECT_EQ(index_->State().dead, 0);
  EXPECT_EQ(index_->State().in_graph, 799);
  EXPECT_GE(Recall(*index_), 0.99);
}

// All that is near one center is gone, so a walk there meets tombstones alone.
TEST_F(FaissGraphTest, LooksBeyondTombstones) {
  FaissIndexOptions options = SmallOptions();
  options.max_dead_percent = 90;
  options.search_width = 4;
  index_ = CreateFaissIndex(kDimensions, options);
  AddRange(0, 2000);
  index_->AwaitBuilt();
  const Vector query = Sample();
  const auto nearest = *oracle_->Search(query, 200);
  for (const Neighbor& neighbor : nearest) Remove(neighbor.id);
  EXPECT_EQ(index_->State().dead, 200);
  const auto found = *index_->Search(query, 10);
  ASSERT_EQ(found.size(), 10);
  EXPECT_NEAR(found[0].similarity, oracle_->Search(query, 1)->front().similarity, 0.1);
}

TEST_F(FaissGraphTest, GoesBackToScanningWhenFewAreLeft) {
  AddRange(0, 400);
  index_->AwaitBuilt();
  for (uint64_t id = 0; id < 301; ++id) Remove(id);
  index_->AwaitBuilt();
  EXPECT_EQ(index_->State().in_graph, 0);
  EXPECT_EQ(index_->State().dead, 0);
  EXPECT_EQ(Recall(*index_), 1);
}

TEST_F(FaissGraphTest, ComesBackFromItsFileWithItsGraph) {
  AddRange(0, 1000);
  index_->AwaitBuilt();
  for (uint64_t id = 0; id < 50; ++id) Remove(id);
  AddRange(1600, 1605);
  ASSERT_TRUE(index_->Save(path_).ok());
  const auto loaded = LoadFaissIndex(path_, kDimensions, SmallOptions());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->State().in_graph, 1000);
  EXPECT_EQ((*loaded)->State().beside, 5);
  EXPECT_EQ((*loaded)->State().dead, 50);
  EXPECT_EQ((*loaded)->Ids(), oracle_->Ids());
  for (int i = 0; i < 50; ++i) {
    const Vector query = Sample();
    const auto before = *index_->Search(query, 10), after = *(*loaded)->Search(query, 10);
    ASSERT_EQ(before.size(), after.size());
    for (size_t at = 0; at < before.size(); ++at) EXPECT_EQ(before[at].id, after[at].id);
  }
  index_ = *LoadFaissIndex(path_, kDimensions, SmallOptions());
  AddRange(1700, 1800);
  index_->AwaitBuilt();
  EXPECT_GE(Recall(*index_), 0.99) << "a graph that came back grows";
}

TEST_F(FaissGraphTest, RefusesADamagedGraph) {
  AddRange(0, 200);
  index_->AwaitBuilt();
  const std::string whole = SavedBytes();
  for (size_t at = 0; at < whole.size(); at += 97) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    std::ofstream(path_, std::ios::binary) << damaged;
    EXPECT_TRUE(absl::IsDataLoss(LoadFaissIndex(path_, kDimensions).status())) << at;
  }
}

// Damage with a checksum that is right for it would send a walk out of bounds.
TEST_F(FaissGraphTest, RefusesAForgedGraph) {
  constexpr size_t kHeader = 48, kChecksumAt = 32, kSlots = 200;
  constexpr size_t kGraphAt = kHeader + kSlots * (sizeof(uint64_t) + 1 + kDimensions * 4);
  constexpr size_t kLevelsAt = kGraphAt + 8, kLinksAt = kLevelsAt + kSlots * 4;
  AddRange(0, kSlots);
  index_->AwaitBuilt();
  const std::string whole = SavedBytes();
  const struct {
    size_t at;
    int32_t value;
    const char* problem;
  } kForgeries[] = {{kGraphAt, 200, "entry 200"},      {kGraphAt, -1, "entry -1"},
                    {kGraphAt + 4, 9, "at level 9"},   {kLevelsAt, 0, "0 levels"},
                    {kLevelsAt, 1000, "1000 levels"},  {kLevelsAt, -5, "-5 levels"},
                    {kLinksAt, 200, "links to 200"},   {kLinksAt, -2, "links to -2"},
                    {kLinksAt, 1 << 30, "links to 1"}, {kHeader - 40, 201, "does not fit"}};
  for (const auto& forgery : kForgeries) {
    std::string bytes = whole;
    std::memcpy(&bytes[forgery.at], &forgery.value, sizeof(forgery.value));
    const Checksum128 checksum = Xxh3Checksum({AsBytes(bytes).subspan(kHeader)});
    std::memcpy(&bytes[kChecksumAt], &checksum, sizeof(checksum));
    std::ofstream(path_, std::ios::binary) << bytes;
    const absl::Status status = LoadFaissIndex(path_, kDimensions).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << forgery.problem << ": " << status;
  }
}

TEST_F(FaissGraphTest, SearchesAndChangesGoOnWhileItBuilds) {
  std::atomic<bool> done{false};
  std::vector<Vector> vectors, queries;
  for (int i = 0; i < 1500; ++i) vectors.push_back(Sample());
  for (int i = 0; i < 50; ++i) queries.push_back(Sample());
  std::thread searcher([&] {
    for (size_t i = 0; !done; ++i) {
      const auto found = index_->Search(queries[i % queries.size()], 5);
      EXPECT_TRUE(found.ok());
      for (size_t at = 1; at < found->size(); ++at) {
        EXPECT_GE((*found)[at - 1].similarity, (*found)[at].similarity);
      }
      index_->Contains(i);
    }
  });
  for (uint64_t id = 0; id < vectors.size(); ++id) {
    ASSERT_TRUE(index_->Add(id, vectors[id]).ok());
    ASSERT_TRUE(oracle_->Add(id, vectors[id]).ok());
    if (id % 3 == 2) Remove(id - 2);
  }
  index_->AwaitBuilt();
  done = true;
  searcher.join();
  EXPECT_EQ(index_->Ids(), oracle_->Ids());
  EXPECT_GE(Recall(*index_), 0.99);
}

TEST_F(FaissGraphTest, HoldsWhatItWasGivenLast) {
  AddRange(0, 300);
  const Vector old = Sample(), now = Sample();
  ASSERT_TRUE(index_->Add(7, old).ok());
  ASSERT_TRUE(index_->Add(7, now).ok());
  for (int round = 0; round < 2; ++round) {
    for (const VectorIndex* index : {static_cast<VectorIndex*>(index_.get()), oracle_.get()}) {
      EXPECT_FALSE(index->Holds(7, old));
      EXPECT_FALSE(index->Holds(1000, now));
    }
    EXPECT_TRUE(index_->Holds(7, now));
    index_->AwaitBuilt();
  }
}

// It ends without waiting for the rest of a graph.
TEST_F(FaissGraphTest, EndsWhileItBuilds) {
  for (int round = 0; round < 20; ++round) {
    index_ = CreateFaissIndex(kDimensions, SmallOptions());
    for (uint64_t id = 0; id < 250; ++id) ASSERT_TRUE(index_->Add(id, Sample()).ok());
  }
}

}  // namespace
}  // namespace reprise
