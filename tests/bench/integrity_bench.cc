// Damages stored entries and counts what is detected; measures what the check costs.
// Prints one JSON object.
//
//   integrity_bench trials COUNT FOLDER
//     single bits flipped, values cut short and values swapped, of segments, records and
//     prompts, in the database's values and for a part in its files
//   integrity_bench rate FOLDER
//     the checksum alone, and its share of a load of 512 tokens of DialoGPT-medium from
//     the page cache
//   integrity_bench damage FOLDER SEED
//     damages every segment of a store that nobody holds, for a server to find
#include <rocksdb/db.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "core/base/digest.h"
#include "core/store/rocksdb_store.h"
#include "core/store/segment_codec.h"

namespace reprise {
namespace {

namespace fs = std::filesystem;

constexpr int kEntries = 100;  // segments of a round; each has a prompt, too
constexpr int kPayloadBytes = 4096;
constexpr int kSegments = 8;                           // 512 tokens
constexpr int kSegmentBytes = 64 * 24 * 2 * 1024 * 2;  // of DialoGPT-medium, bf16
constexpr int kRateRounds = 15;
enum Family { kSegmentFamily = 1, kRecordFamily = 2, kPromptFamily = 3 };

[[noreturn]] void Fail(const std::string& message) {
  std::cerr << "integrity_bench: " << message << std::endl;
  std::exit(1);
}

void Must(const absl::Status& status) {
  if (!status.ok()) Fail(std::string(status.message()));
}

std::unique_ptr<KvStore> Open(const std::string& path) {
  auto store = OpenRocksDbStore({path});
  Must(store.status());
  return *std::move(store);
}

SegmentWrite MakeWrite(uint32_t seed, int payload_bytes) {
  std::mt19937 random(seed);
  SegmentWrite write;
  const int tokens = seed % 3 == 0 ? 1 + static_cast<int>(random() % 63) : kSegmentTokens;
  write.record.kind = tokens == kSegmentTokens ? SegmentKind::kFull : SegmentKind::kTail;
  write.record.identity.fill(9);
  write.record.parent = write.record.identity;
  for (int i = 0; i < tokens; ++i) write.record.ids.push_back(static_cast<TokenId>(random() >> 1));
  write.record.key = ComputeSegmentKey(write.record.kind, write.record.parent, write.record.ids);
  write.record.payload_bytes = payload_bytes;
  for (int i = 0; i < payload_bytes; i += 4) {
    const uint32_t word = random();
    for (int byte = 0; byte < 4; ++byte) write.payload.push_back(word >> (8 * byte) & 0xFF);
  }
  return write;
}

// The database behind the store's back.
class RawDatabase {
 public:
  explicit RawDatabase(const std::string& path) {
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const char* name : {"default", "segments", "records", "prompts"}) {
      families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    }
    rocksdb::DB* db = nullptr;
    const auto status = rocksdb::DB::Open(rocksdb::DBOptions(), path, families, &handles_, &db);
    if (!status.ok()) Fail(status.ToString());
    db_.reset(db);
  }
  ~RawDatabase() {
    for (rocksdb::ColumnFamilyHandle* handle : handles_) db_->DestroyColumnFamilyHandle(handle);
  }

  std::vector<std::pair<std::string, std::string>> All(Family family) {
    std::vector<std::pair<std::string, std::string>> all;
    const std::unique_ptr<rocksdb::Iterator> it(
        db_->NewIterator(rocksdb::ReadOptions(), handles_[family]));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      all.emplace_back(it->key().ToString(), it->value().ToString());
    }
    if (!it->status().ok()) Fail(it->status().ToString());
    return all;
  }
  void Put(Family family, const std::string& key, const std::string& value) {
    const auto status = db_->Put(rocksdb::WriteOptions(), handles_[family], key, value);
    if (!status.ok()) Fail(status.ToString());
  }

 private:
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;
};

struct Counts {
  int64_t flips = 0, truncations = 0, swaps = 0;                 // by what was done
  int64_t segments = 0, records = 0, prompts = 0, in_files = 0;  // by where
  int64_t detected = 0, returned = 0, sound_refused = 0, quarantined = 0, counted = 0;
  int64_t trials() const { return flips + truncations + swaps; }
};

// Changes values, two by two: a flip in each, a cut in each, or both swapped. Headers
// are flipped bit by bit, one after another; the rest anywhere.
class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed), bit_(seed * 977) {}

  void Change(std::string& one, std::string& two, Counts& counts) {
    switch (random_() % 4) {
      case 0:
        one.resize(random_() % one.size());
        two.resize(random_() % two.size());
        counts.truncations += 2;
        return;
      case 1:
        if (one == two) Fail("two values are the same");
        std::swap(one, two);
        counts.swaps += 2;
        return;
      default:
        Flip(one);
        Flip(two);
        counts.flips += 2;
    }
  }

 private:
  void Flip(std::string& value) {
    const size_t header = value.size() - std::min<size_t>(kPayloadBytes, value.size() / 2);
    const size_t bit = random_() % 2 == 0 ? bit_++ % (header * 8) : random_() % (value.size() * 8);
    value[bit / 8] = static_cast<char>(value[bit / 8] ^ (1 << (bit % 8)));
  }

  std::mt19937 random_;
  size_t bit_;
};

// Changes all values of a family; the odd one stays. Returns their keys.
std::vector<std::string> ChangeFamily(RawDatabase& database, Family family, Mutator& mutator,
                                      Counts& counts) {
  auto all = database.All(family);
  std::vector<std::string> changed;
  for (size_t i = 0; i + 1 < all.size(); i += 2) {
    mutator.Change(all[i].second, all[i + 1].second, counts);
    for (const size_t at : {i, i + 1}) {
      database.Put(family, all[at].first, all[at].second);
      changed.push_back(all[at].first);
    }
  }
  return changed;
}

// Flips a bit of each segment where it lies in the store's files.
void ChangeFiles(const std::string& path, const std::vector<SegmentWrite>& writes, uint32_t seed,
                 Counts& counts) {
  std::mt19937 random(seed);
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.path().extension() != ".blob") continue;
    std::ifstream in(entry.path(), std::ios::binary);
    std::string bytes(std::istreambuf_iterator<char>(in), {});
    for (const SegmentWrite& write : writes) {
      const std::string value = EncodeSegment(write.record, write.payload);
      const size_t at = bytes.find(value);
      if (at == std::string::npos) continue;
      const size_t bit = random() % (value.size() * 8);
      bytes[at + bit / 8] = static_cast<char>(bytes[at + bit / 8] ^ (1 << (bit % 8)));
      ++counts.flips;
      ++counts.in_files;
    }
    std::ofstream(entry.path(), std::ios::binary) << bytes;
  }
}

// Of damaged segments: each is data loss once, then a miss.
void JudgeSegments(KvStore& store, const std::vector<SegmentWrite>& writes, Counts& counts) {
  for (const SegmentWrite& write : writes) {
    std::vector<uint8_t> out(write.payload.size());
    const absl::Status first = store.ReadSegment(write.record, absl::MakeSpan(out));
    const absl::Status second = store.ReadSegment(write.record, absl::MakeSpan(out));
    counts.detected += absl::IsDataLoss(first);
    counts.returned += first.ok() || second.ok();
    counts.quarantined += absl::IsNotFound(second);
  }
  counts.segments += static_cast<int64_t>(writes.size());
}

// Of damaged records and prompts: none is listed.
void JudgeListed(KvStore& store, int64_t records, int64_t prompts, Counts& counts) {
  int64_t listed = 0;
  const Digest identity = MakeWrite(1, 4).record.identity;
  Must(store.ForEachSegment(identity, [&](const SegmentRecord&) { ++listed; }));
  Must(store.ForEachPrompt(identity, [&](const PromptRecord&) { ++listed; }));
  counts.returned += listed;
  counts.detected += records + prompts - listed;
  counts.quarantined += records + prompts - listed;
  counts.records += records;
  counts.prompts += prompts;
}

std::vector<SegmentWrite> Fill(const std::string& path, uint32_t seed) {
  std::vector<SegmentWrite> writes;
  const auto store = Open(path);
  for (int i = 0; i < kEntries; ++i) {
    writes.push_back(MakeWrite(seed * kEntries + i, kPayloadBytes));
    const auto id = static_cast<uint64_t>(1 + i);
    Must(store->WritePrompt(
        {id, writes.back().record.identity, writes.back().record.ids, {1.0f}, i}));
  }
  Must(store->WriteSegments(writes));
  for (const SegmentWrite& write : writes) {
    std::vector<uint8_t> out(write.payload.size());
    Must(store->ReadSegment(write.record, absl::MakeSpan(out)));
    if (out != write.payload) Fail("a sound segment reads back otherwise");
  }
  return writes;
}

// Segments in two rounds of three, records and prompts in the third; every fourth round of
// segments in the files.
void Round(const std::string& path, uint32_t seed, Counts& counts) {
  fs::remove_all(path);
  const std::vector<SegmentWrite> writes = Fill(path, seed);
  Mutator mutator(seed);
  const bool listed = seed % 3 == 2, in_files = !listed && seed % 4 == 0;
  int64_t records = 0, prompts = 0;
  if (in_files) {
    ChangeFiles(path, writes, seed, counts);
  } else {
    RawDatabase database(path);
    if (listed) {
      records = static_cast<int64_t>(ChangeFamily(database, kRecordFamily, mutator, counts).size());
      prompts = static_cast<int64_t>(ChangeFamily(database, kPromptFamily, mutator, counts).size());
    } else {
      ChangeFamily(database, kSegmentFamily, mutator, counts);
    }
  }
  const auto store = Open(path);
  if (listed) {
    JudgeListed(*store, records, prompts, counts);
  } else {
    JudgeSegments(*store, writes, counts);
  }
  counts.counted += store->Stats().corrupt_count;
}

int Trials(int64_t count, const std::string& folder) {
  Counts counts;
  const std::string path = folder + "/trials";
  for (uint32_t seed = 1; counts.trials() < count; ++seed) Round(path, seed, counts);
  fs::remove_all(path);
  std::cout << absl::StrFormat(
                   "{\"trials\": %d, \"flips\": %d, \"truncations\": %d, \"swaps\": %d, "
                   "\"segments\": %d, \"records\": %d, \"prompts\": %d, \"in_files\": %d, "
                   "\"detected\": %d, \"returned\": %d, \"quarantined\": %d, \"counted\": %d}",
                   counts.trials(), counts.flips, counts.truncations, counts.swaps, counts.segments,
                   counts.records, counts.prompts, counts.in_files, counts.detected,
                   counts.returned, counts.quarantined, counts.counted)
            << std::endl;
  return 0;
}

double Seconds(const std::function<void()>& work) {
  const absl::Time start = absl::Now();
  work();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

int Rate(const std::string& folder) {
  const std::string path = folder + "/rate";
  fs::remove_all(path);
  const auto store = Open(path);
  std::vector<SegmentWrite> writes;
  for (uint32_t i = 0; i < kSegments; ++i) writes.push_back(MakeWrite(3 * i + 1, kSegmentBytes));
  Must(store->WriteSegments(writes));
  std::vector<std::vector<uint8_t>> outs(writes.size(), std::vector<uint8_t>(kSegmentBytes));
  const double bytes = double{kSegmentBytes} * kSegments;
  double hash = 1e9, load = 1e9;  // seconds of the best round each
  uint64_t sum = 0;               // so that the hashes are made
  for (int round = 0; round < kRateRounds; ++round) {
    load = std::min(load, Seconds([&] {
                      for (size_t i = 0; i < writes.size(); ++i) {
                        Must(store->ReadSegment(writes[i].record, absl::MakeSpan(outs[i])));
                      }
                    }));
    hash = std::min(hash, Seconds([&] {
                      for (const auto& out : outs) sum += Xxh3Checksum({out}).low;
                    }));
  }
  fs::remove_all(path);
  std::cout << absl::StrFormat(
                   "{\"hash_gb_per_s\": %.2f, \"load_gb_per_s\": %.2f, \"hash_share\": %.3f, "
                   "\"segment_bytes\": %d, \"segments\": %d, \"rounds\": %d, \"checked\": %d}",
                   bytes / hash / 1e9, bytes / load / 1e9, hash / load, kSegmentBytes, kSegments,
                   kRateRounds, sum != 0 ? 1 : 0)
            << std::endl;
  return 0;
}

int Damage(const std::string& path, uint32_t seed) {
  RawDatabase database(path);
  Mutator mutator(seed);
  Counts counts;
  auto all = database.All(kSegmentFamily);
  if (all.size() % 2 == 1) all.push_back({"", all[0].second});  // a partner for the last
  for (size_t i = 0; i + 1 < all.size(); i += 2) {
    if (all[i].second == all[i + 1].second) {
      all[i].second[0] = static_cast<char>(all[i].second[0] ^ 1);
      ++counts.flips;
    } else {
      mutator.Change(all[i].second, all[i + 1].second, counts);
    }
  }
  for (const auto& [key, value] : all) {
    if (!key.empty()) database.Put(kSegmentFamily, key, value);
  }
  std::cout << absl::StrFormat("{\"damaged\": %d}", all.size()) << std::endl;
  return 0;
}

int Run(const std::vector<std::string>& words) {
  int64_t number = 0;
  if (words.size() == 3 && words[0] == "trials" && absl::SimpleAtoi(words[1], &number)) {
    return Trials(number, words[2]);
  }
  if (words.size() == 2 && words[0] == "rate") return Rate(words[1]);
  if (words.size() == 3 && words[0] == "damage" && absl::SimpleAtoi(words[2], &number)) {
    return Damage(words[1], static_cast<uint32_t>(number));
  }
  std::cerr << "integrity_bench trials COUNT FOLDER | rate FOLDER | damage FOLDER SEED"
            << std::endl;
  return 2;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) {
  return reprise::Run(std::vector<std::string>(argv + 1, argv + argc));
}
