// Measures similarity search: recall of the ten nearest against brute force and the times of
// searches over unit vectors in clusters, fresh, with tombstones, and rebuilt; how long the
// graph takes to build beside a thread that searches; and explanations of an engine that holds
// as many prompts, embedding apart.
//
//   similarity_bench [VECTORS] [QUERIES]
//
// Prints one JSON object. Times are of one thread.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <random>
#include <set>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "core/engine/engine.h"
#include "core/similarity/brute_force_index.h"
#include "core/similarity/faiss_index.h"
#include "core/store/memory_store.h"
#include "core/text/byte_tokenizer.h"
#include "tests/fakes/scripted_runner.h"

namespace reprise {
namespace {

constexpr int kDimensions = 384;
constexpr int kClusters = 1000;
constexpr float kNoise = 0.8f;  // of a vector beside its cluster's center, both of length one
constexpr int kNearest = 10;
constexpr size_t kJudged =
    200;  // queries whose recall is taken: brute force takes most of the time
constexpr int kPromptTokens = 24;
using Vector = std::vector<float>;

void Require(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << "similarity_bench: " << status << std::endl;
  std::exit(1);
}

template <typename T>
T Require(absl::StatusOr<T> value) {
  Require(value.status());
  return *std::move(value);
}

class Clusters {
 public:
  Clusters() {
    for (int i = 0; i < kClusters; ++i) centers_.push_back(Noise());
  }

  Vector Sample() {
    Vector vector = Noise();
    const Vector& center = centers_[random_() % kClusters];
    float squares = 0;
    for (int i = 0; i < kDimensions; ++i) {
      vector[i] = center[i] + kNoise * vector[i];
      squares += vector[i] * vector[i];
    }
    for (float& value : vector) value /= std::sqrt(squares);
    return vector;
  }

 private:
  Vector Noise() {
    Vector vector(kDimensions);
    for (float& value : vector) value = normal_(random_) / std::sqrt(float{kDimensions});
    return vector;
  }

  std::mt19937 random_{1};
  std::normal_distribution<float> normal_;
  std::vector<Vector> centers_;
};

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double place = std::ceil(share * static_cast<double>(values.size())) - 1;
  return values[static_cast<size_t>(std::max(0.0, place))];
}

double Milliseconds(absl::Time since) { return absl::ToDoubleMilliseconds(absl::Now() - since); }

struct Measured {
  double recall = 0;
  std::vector<double> times;  // ms
};

Measured Search(const VectorIndex& index, const VectorIndex& oracle,
                const std::vector<Vector>& queries) {
  Measured measured;
  int found = 0;
  const size_t judged = std::min(kJudged, queries.size());
  for (size_t i = 0; i < queries.size(); ++i) {
    const Vector& query = queries[i];
    const absl::Time start = absl::Now();
    const auto near = Require(index.Search(query, kNearest));
    measured.times.push_back(Milliseconds(start));
    if (i >= judged) continue;
    std::set<uint64_t> names;
    for (const Neighbor& neighbor : near) names.insert(neighbor.id);
    for (const Neighbor& truth : Require(oracle.Search(query, kNearest))) {
      found += names.contains(truth.id) ? 1 : 0;
    }
  }
  measured.recall = static_cast<double>(found) / (kNearest * static_cast<double>(judged));
  return measured;
}

// Seconds until the graph is built; the times of the searches meanwhile.
double Build(const FaissIndex& index, const std::vector<Vector>& queries, Measured& meanwhile) {
  std::atomic<bool> built{false};
  std::thread searcher([&] {
    for (size_t i = 0; !built; ++i) {
      const absl::Time start = absl::Now();
      Require(index.Search(queries[i % queries.size()], kNearest).status());
      meanwhile.times.push_back(Milliseconds(start));
      absl::SleepFor(absl::Milliseconds(20));
    }
  });
  const absl::Time start = absl::Now();
  index.AwaitBuilt();
  const double seconds = Milliseconds(start) / 1e3;
  built = true;
  searcher.join();
  return seconds;
}

std::vector<TokenId> PromptIds(uint64_t number) {
  std::vector<TokenId> ids;
  for (int i = 0; i < kPromptTokens; ++i) {
    ids.push_back(static_cast<TokenId>(number >> (8 * (i % 4)) & 0xFF));
  }
  return ids;
}

// One segment and the prompt's record, as the engine writes them.
void Store(KvStore& store, uint64_t id, const Vector& vector, int64_t payload_bytes) {
  SegmentWrite write;
  SegmentRecord& record = write.record;
  record.kind = SegmentKind::kTail;
  record.ids = PromptIds(id);
  record.parent = record.identity;
  record.key = ComputeSegmentKey(record.kind, record.parent, record.ids);
  record.payload_bytes = payload_bytes;
  write.payload.resize(static_cast<size_t>(payload_bytes));
  Require(store.WriteSegments({&write, 1}));
  Require(store.WritePrompt({id, record.identity, record.ids, vector, 0}));
}

// Times of Engine::Explain over as many cached prompts as `index` has vectors.
std::vector<double> Explain(std::unique_ptr<FaissIndex> index, const std::vector<Vector>& vectors,
                            const std::vector<Vector>& queries) {
  const auto tokenizer = CreateByteTokenizer();
  Metrics metrics;
  const SystemClock clock;
  EngineParts parts;
  parts.runner = CreateScriptedRunner({});
  parts.store = CreateMemoryStore();
  for (const uint64_t id : index->Ids()) {
    Store(*parts.store, id, vectors[id], 2 * parts.runner->block_bytes());
  }
  parts.vectors = std::move(index);
  parts.embed = [&queries](const std::string& text) -> absl::StatusOr<Vector> {
    size_t number = 0;
    if (!absl::SimpleAtoi(text, &number)) return absl::InvalidArgumentError(text);
    return queries[number];
  };
  parts.tokenizer = tokenizer.get();
  parts.metrics = &metrics;
  parts.clock = &clock;
  EngineOptions options;
  options.max_prompts = static_cast<int64_t>(vectors.size());
  const auto engine = Require(Engine::Create(options, std::move(parts)));
  std::vector<double> times;
  for (size_t i = 0; i < queries.size(); ++i) {
    ExplainRequest request;
    request.prompt = PromptIds(vectors.size() + i);
    request.prompt_text = absl::StrCat(i);
    const absl::Time start = absl::Now();
    const Explanation explanation = Require(engine->Explain(request));
    times.push_back(Milliseconds(start));
    if (!explanation.nearest) Require(absl::InternalError("an explanation has no nearest prompt"));
  }
  return times;
}

void Print(const char* name, const Measured& measured) {
  std::printf("\"%s_recall\":%.4f,\"%s_p50_ms\":%.3f,\"%s_p99_ms\":%.3f,", name, measured.recall,
              name, Percentile(measured.times, 0.5), name, Percentile(measured.times, 0.99));
}

void Run(int count, int query_count) {
  Clusters clusters;
  std::vector<Vector> vectors, queries;
  for (int i = 0; i < count; ++i) vectors.push_back(clusters.Sample());
  for (int i = 0; i < query_count; ++i) queries.push_back(clusters.Sample());
  auto index = CreateFaissIndex(kDimensions);
  const auto oracle = CreateBruteForceIndex(kDimensions);
  for (size_t id = 0; id < vectors.size(); ++id) {
    Require(index->Add(id, vectors[id]));
    Require(oracle->Add(id, vectors[id]));
  }
  Measured building, rebuilding;
  const double build_seconds = Build(*index, queries, building);
  const Measured fresh = Search(*index, *oracle, queries);

  std::mt19937 random(2);
  const int64_t most_dead = index->State().in_graph / 5;  // one more and it is built anew
  while (index->State().dead < most_dead) {
    const uint64_t id = random() % vectors.size();
    Require(index->Remove(id));
    Require(oracle->Remove(id));
  }
  const Measured tombstones = Search(*index, *oracle, queries);
  const FaissIndexState dead = index->State();

  const std::string path = absl::StrCat("/tmp/similarity_bench.", getpid());
  absl::Time start = absl::Now();
  Require(index->Save(path));
  const double save_seconds = Milliseconds(start) / 1e3;
  start = absl::Now();
  index = Require(LoadFaissIndex(path, kDimensions));
  const double load_seconds = Milliseconds(start) / 1e3;
  unlink(path.c_str());

  const uint64_t last = index->Ids().back();
  Require(index->Remove(last));
  Require(oracle->Remove(last));
  const double rebuild_seconds = Build(*index, queries, rebuilding);
  const Measured rebuilt = Search(*index, *oracle, queries);
  const std::vector<double> explain = Explain(std::move(index), vectors, queries);

  std::printf("{\"vectors\":%d,\"dimensions\":%d,\"clusters\":%d,\"queries\":%d,", count,
              kDimensions, kClusters, query_count);
  Print("fresh", fresh);
  Print("tombstones", tombstones);
  Print("rebuilt", rebuilt);
  std::printf(
      "\"in_graph\":%ld,\"dead\":%ld,\"build_seconds\":%.1f,\"rebuild_seconds\":%.1f,"
      "\"while_building_p99_ms\":%.3f,\"while_rebuilding_p99_ms\":%.3f,"
      "\"save_seconds\":%.2f,\"load_seconds\":%.2f,\"explain_p50_ms\":%.3f,"
      "\"explain_p99_ms\":%.3f}\n",
      static_cast<long>(dead.in_graph), static_cast<long>(dead.dead), build_seconds,
      rebuild_seconds, building.times.empty() ? 0 : Percentile(building.times, 0.99),
      rebuilding.times.empty() ? 0 : Percentile(rebuilding.times, 0.99), save_seconds, load_seconds,
      Percentile(explain, 0.5), Percentile(explain, 0.99));
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) {
  const int vectors = argc > 1 ? std::atoi(argv[1]) : 100000;
  const int queries = argc > 2 ? std::atoi(argv[2]) : 1000;
  if (vectors < 1 || queries < 1) {
    std::cerr << "similarity_bench [VECTORS] [QUERIES]" << std::endl;
    return 2;
  }
  reprise::Run(vectors, queries);
  return 0;
}
