// Files of the vector index. Each input is loaded as it is and once more under a
// checksum that fits it.
#include <cstring>

#include "core/base/digest.h"
#include "core/similarity/faiss_index.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

constexpr int kDimensions = 4;
constexpr size_t kChecksumAt = 32, kBodyAt = 48;

// A walk over as few vectors as a seed has.
constexpr FaissIndexOptions kOptions = {.graph_from = 40, .max_beside = 2, .search_width = 2};

void Load(absl::string_view bytes) {
  const MemoryFile file(bytes);
  const auto index = LoadFaissIndex(file.path(), kDimensions, kOptions);
  Require(index.ok() || absl::IsDataLoss(index.status()), "a bad file is damaged");
  if (!index.ok()) return;
  const auto ids = (*index)->Ids();
  Require(static_cast<int64_t>(ids.size()) == (*index)->size(), "each vector has an id");
  const float query[kDimensions] = {0, 0, 1, 0};
  const auto nearest = (*index)->Search(query, static_cast<int>(ids.size()));
  Require(nearest.ok() && nearest->size() == ids.size(), "every vector is found");
  Require((*index)->Search(query, 1).ok(), "a walk ends");
  Require((*index)->Add(uint64_t{1} << 40, query).ok(), "a vector is added");
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  const TemporaryFolder folder;
  std::vector<std::string> seeds;
  const auto index = CreateFaissIndex(kDimensions, kOptions);
  for (uint64_t id = 0; id < 60; ++id) {
    std::vector<float> vector = {0.6f, 0.8f, 0, 0};
    std::swap(vector[0], vector[id % kDimensions]);
    Require(index->Add(id, vector).ok(), "a vector is added");
    if (id > 3 && id < 59) continue;
    index->AwaitBuilt();
    Require(index->Save(folder.path() + "/index").ok(), "an index is saved");
    seeds.push_back(ReadSeed(folder.path() + "/index"));
  }
  Require(index->Remove(5).ok() && index->Save(folder.path() + "/index").ok(),
          "an index with a tombstone is saved");
  seeds.push_back(ReadSeed(folder.path() + "/index"));
  return seeds;
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  std::string bytes(fuzz::Text(data, size));
  fuzz::Load(bytes);
  if (size < fuzz::kBodyAt) return 0;
  const Checksum128 checksum = Xxh3Checksum({AsBytes(bytes).subspan(fuzz::kBodyAt)});
  std::memcpy(&bytes[fuzz::kChecksumAt], &checksum, sizeof(checksum));
  fuzz::Load(bytes);
  return 0;
}
