// Measures the store and the index of what it holds, as one line of JSON a command:
//
//   store_bench fill FOLDER RECORDS     writes records of whole prompts with small payloads
//   store_bench open FOLDER RECORDS     what fill wrote, to the first hit of an engine with a
//   scripted model store_bench lookup RECORDS          look-ups in memory: segments on disk, and
//   blocks store_bench load FOLDER THREADS REPEATS   512 tokens shaped as DialoGPT-medium's, beside
//   a plain file store_bench churn FOLDER LIMIT SEGMENT_BYTES FACTOR   the disk, while FACTOR times
//   the limit is written
//
// A folder is made, and must be new for fill, load and churn.
#include "tests/bench/store_bench.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>

namespace reprise::bench {

std::vector<TokenId> PromptOf(int64_t number) {
  std::mt19937_64 random(static_cast<uint64_t>(number) + 1);
  std::vector<TokenId> ids(kPromptTokens);
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % 256);  // the byte tokenizer's
  return ids;
}

Digest BenchIdentity() {
  Digest identity;
  identity.fill(7);
  return identity;
}

std::vector<SegmentWrite> SegmentsOf(const std::vector<TokenId>& prompt, int64_t bytes) {
  std::vector<SegmentWrite> writes;
  SegmentKey parent = BenchIdentity();
  std::mt19937_64 random(static_cast<uint64_t>(prompt[0] * 1000 + prompt[1]));
  for (size_t at = 0; at < prompt.size(); at += kSegmentTokens) {
    SegmentWrite write;
    const auto ids = absl::MakeConstSpan(prompt).subspan(at, kSegmentTokens);
    write.record.ids.assign(ids.begin(), ids.end());
    write.record.kind = SegmentKind::kFull;
    write.record.parent = parent;
    write.record.identity = BenchIdentity();
    write.record.start_position = static_cast<int32_t>(at);
    write.record.key = parent = ComputeSegmentKey(SegmentKind::kFull, parent, ids);
    write.payload.resize(static_cast<size_t>(bytes));
    for (size_t i = 0; i + 8 <= write.payload.size(); i += 8) {
      const uint64_t word = random();
      std::copy_n(reinterpret_cast<const uint8_t*>(&word), 8, &write.payload[i]);
    }
    write.record.payload_bytes = bytes;
    writes.push_back(std::move(write));
  }
  return writes;
}

void Require(const absl::Status& status, const std::string& what) {
  if (status.ok()) return;
  std::cerr << "store_bench: " << what << ": " << status << "\n";
  std::exit(1);
}

std::unique_ptr<KvStore> OpenStore(const RocksDbOptions& options) {
  auto store = OpenRocksDbStore(options);
  Require(store.status(), "open");
  return *std::move(store);
}

int64_t ResidentBytes() {
  std::ifstream status("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  status >> pages >> resident;
  return resident * 4096;
}

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

}  // namespace reprise::bench

int main(int argc, char** argv) {
  using Command = std::function<void(const std::vector<std::string>&)>;
  const std::map<std::string, std::pair<size_t, Command>> commands = {
      {"fill", {2, reprise::bench::Fill}},
      {"open", {2, reprise::bench::Open}},
      {"lookup", {1, reprise::bench::Lookup}},
      {"load", {3, reprise::bench::Load}},
      {"churn", {4, reprise::bench::Churn}}};
  const std::vector<std::string> words(argv + std::min(argc, 2), argv + argc);
  const auto found = argc > 1 ? commands.find(argv[1]) : commands.end();
  if (found == commands.end() || words.size() != found->second.first) {
    std::cerr << "usage: store_bench fill|open FOLDER RECORDS | lookup RECORDS | "
                 "load FOLDER THREADS REPEATS | churn FOLDER LIMIT SEGMENT_BYTES FACTOR\n";
    return 2;
  }
  found->second.second(words);
  return 0;
}
