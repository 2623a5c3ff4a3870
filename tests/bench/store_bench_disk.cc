// store_bench: how fast segments load, and what the folder takes while they come and go.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <iostream>
#include <thread>

#include "absl/strings/str_format.h"
#include "core/store/disk_use.h"
#include "tests/bench/store_bench.h"

namespace reprise::bench {

namespace {

using Clock = std::chrono::steady_clock;

// DialoGPT-medium in bf16: 24 layers, K and V, 1024 values, a block of 16 tokens.
constexpr int64_t kBlockBytes = int64_t{24} * 2 * 1024 * kBlockTokens * 2;
constexpr int64_t kSegmentBytes = kSegmentTokens / kBlockTokens * kBlockBytes;
constexpr size_t kLoadSegments = 512 / kSegmentTokens;
constexpr size_t kPrompts = 4;

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Where the segments of one load go.
struct Blocks {
  std::vector<uint8_t> bytes = std::vector<uint8_t>(kLoadSegments * kSegmentBytes);

  MutableByteView Segment(size_t index) {
    return absl::MakeSpan(bytes).subspan(index * kSegmentBytes, kSegmentBytes);
  }
};

// Segments that lie in the store and, one after the other, in a plain file.
struct Loads {
  std::unique_ptr<KvStore> store;
  int file = -1;
  std::vector<std::vector<SegmentRecord>> prompts;
  std::vector<std::vector<Checksum128>> checksums;

  void FromStore(size_t prompt, Blocks& blocks) const {
    for (size_t i = 0; i < kLoadSegments; ++i) {
      const MutableByteView segment = blocks.Segment(i);
      const PayloadSink sink{kBlockBytes, [&](size_t index, ByteView piece) {
                               std::copy(
                                   piece.begin(), piece.end(),
                                   segment.begin() + static_cast<int64_t>(index) * kBlockBytes);
                               return absl::OkStatus();
                             }};
      Require(store->ReadSegmentInto(prompts[prompt][i], sink), "read");
    }
  }

  void FromFile(size_t prompt, Blocks& blocks) const {
    for (size_t i = 0; i < kLoadSegments; ++i) {
      const MutableByteView segment = blocks.Segment(i);
      const auto at = static_cast<off_t>((prompt * kLoadSegments + i) * kSegmentBytes);
      const bool whole =
          pread(file, segment.data(), segment.size(), at) == static_cast<ssize_t>(segment.size());
      if (!whole || Xxh3Checksum({segment}) != checksums[prompt][i]) {
        Require(absl::DataLossError("another checksum"), "plain file");
      }
    }
  }
};

Loads MakeLoads(const std::string& folder) {
  Loads loads;
  loads.store = OpenStore({folder});
  const std::string plain = folder + "/plain";
  loads.file = open(plain.c_str(), O_RDWR | O_CREAT, 0600);
  for (size_t prompt = 0; prompt < kPrompts; ++prompt) {
    std::vector<TokenId> ids = PromptOf(static_cast<int64_t>(prompt));
    ids.resize(kLoadSegments * kSegmentTokens);
    auto& records = loads.prompts.emplace_back();
    auto& checksums = loads.checksums.emplace_back();
    for (const SegmentWrite& write : SegmentsOf(ids, kSegmentBytes)) {
      Require(loads.store->WriteSegments({write}), "write");
      if (::write(loads.file, write.payload.data(), write.payload.size()) !=
          static_cast<ssize_t>(write.payload.size())) {
        Require(absl::UnavailableError("short"), plain);
      }
      checksums.push_back(Xxh3Checksum({write.payload}));
      records.push_back(write.record);
    }
  }
  return loads;
}

// Bytes a second of `threads` that each load one prompt after the other.
template <typename LoadOne>
double Rate(std::vector<Blocks>& blocks, LoadOne load) {
  const auto start = Clock::now();
  std::vector<std::thread> threads;
  for (size_t t = 0; t < blocks.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < kPrompts; ++i) load((t * 2 + i) % kPrompts, blocks[t]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return static_cast<double>(blocks.size() * kPrompts * kLoadSegments * kSegmentBytes) /
         Since(start);
}

}  // namespace

void Load(const std::vector<std::string>& words) {
  const Loads loads = MakeLoads(words[0]);
  std::vector<Blocks> blocks(std::stoul(words[1]));
  const auto from_store = [&](size_t prompt, Blocks& to) { loads.FromStore(prompt, to); };
  const auto from_file = [&](size_t prompt, Blocks& to) { loads.FromFile(prompt, to); };
  Rate(blocks, from_store);
  Rate(blocks, from_file);
  std::vector<double> store, file, ratio;
  for (int i = 0; i < std::stoi(words[2]); ++i) {
    store.push_back(Rate(blocks, from_store));
    file.push_back(Rate(blocks, from_file));
    ratio.push_back(store.back() / file.back());
  }
  std::cout << absl::StrFormat(
      "{\"threads\":%d,\"tokens\":512,\"segment_bytes\":%d,\"store_gb_s\":%.2f,\"file_gb_s\":%.2f,"
      "\"ratio\":%.3f,\"best_ratio\":%.3f}\n",
      blocks.size(), kSegmentBytes, Percentile(store, 0.5) / 1e9, Percentile(file, 0.5) / 1e9,
      Percentile(ratio, 0.5), Percentile(store, 1) / Percentile(file, 1));
}

namespace {

// Measures a folder all the time.
class DiskWatch {
 public:
  explicit DiskWatch(std::string folder)
      : folder_(std::move(folder)), thread_([this] { Watch(); }) {}
  ~DiskWatch() {
    stop_ = true;
    thread_.join();
  }
  int64_t most() const { return most_; }

 private:
  void Watch() {
    while (!stop_) {
      most_ = std::max<int64_t>(most_, MeasureDiskUse(folder_).total_bytes);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  const std::string folder_;
  std::atomic<int64_t> most_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Prompts come and, in about the order they came, go: every fourth that goes is any.
class Churner {
 public:
  Churner(const RocksDbOptions& options, int64_t segment_bytes)
      : options_(options), segment_bytes_(segment_bytes) {
    Reopen();
  }

  void Reopen() {
    store_ = nullptr;
    store_ = OpenStore(options_);
  }

  // Writes one prompt and makes room for it, as the engine does after a write.
  void Turn() {
    std::vector<SegmentWrite> writes = SegmentsOf(PromptOf(next_++), segment_bytes_);
    const absl::Status status = store_->WriteSegments(writes);
    if (!absl::IsResourceExhausted(status)) Require(status, "write");
    refused_ += status.ok() ? 0 : 1;
    std::vector<SegmentKey> keys;
    for (const SegmentWrite& write : writes) keys.push_back(write.record.key);
    if (status.ok()) live_.push_back(std::move(keys));
    const int64_t prompt_bytes = static_cast<int64_t>(writes.size()) * segment_bytes_;
    while (static_cast<int64_t>(live_.size()) * prompt_bytes > store_->PayloadLimit()) {
      const size_t at = random_() % 4 == 0 ? random_() % live_.size() : 0;
      Require(store_->DeleteSegments(live_[at]), "delete");
      live_.erase(live_.begin() + static_cast<int64_t>(at));
    }
  }

  double ShareAlive() const {
    const StoreStats stats = store_->Stats();
    return static_cast<double>(stats.payload_bytes) / static_cast<double>(stats.disk_bytes);
  }
  int refused() const { return refused_; }
  int64_t turn_bytes() const { return kPromptTokens / kSegmentTokens * segment_bytes_; }

 private:
  const RocksDbOptions options_;
  const int64_t segment_bytes_;
  std::unique_ptr<KvStore> store_;
  std::deque<std::vector<SegmentKey>> live_;  // by prompt
  std::mt19937_64 random_{11};
  int64_t next_ = 0;
  int refused_ = 0;
};

}  // namespace

void Churn(const std::vector<std::string>& words) {
  RocksDbOptions options;
  options.path = words[0];
  options.max_disk_bytes = std::stoll(words[1]);
  options.write_bytes_per_second = 0;
  Churner churner(options, std::stoll(words[2]));
  const DiskWatch watch(options.path);
  const int64_t turns = std::stoll(words[3]) * options.max_disk_bytes / churner.turn_bytes();
  std::vector<double> alive;  // once the limit was reached
  for (int64_t turn = 0; turn < turns; ++turn) {
    churner.Turn();
    if (turn % (turns / 4 + 1) == turns / 4) churner.Reopen();
    if (turn > turns / std::stoll(words[3])) alive.push_back(churner.ShareAlive());
  }
  const double limit = static_cast<double>(options.max_disk_bytes);
  const double buffer =
      static_cast<double>(std::max<int64_t>(WriteBufferBytes(options), std::stoll(words[2])));
  std::cout << absl::StrFormat(
      "{\"limit\":%.0f,\"write_buffer\":%.0f,\"most\":%d,\"most_to_limit\":%.4f,"
      "\"most_to_bound\":%.4f,\"alive_median\":%.3f,\"alive_least\":%.3f,\"refused\":%d,"
      "\"turns\":%d}\n",
      limit, buffer, watch.most(), static_cast<double>(watch.most()) / limit,
      static_cast<double>(watch.most()) / (limit + buffer), Percentile(alive, 0.5),
      Percentile(alive, 0), churner.refused(), turns);
}

}  // namespace reprise::bench
