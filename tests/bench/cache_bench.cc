// Measures the cache of the engine in process, with a real model, and prints one line of JSON.
//
//   cache_bench cold MODEL FOLDER [--pairs N] [--disk-mb-per-second R] [--encoder FOLDER]
//   cache_bench grid MODEL [--repeats N]
//   cache_bench share MODEL
//
// cold   unique prompts, the cache on (USE) against off (BYPASS), in blocks of four requests
//        in turn, so that what a request leaves to be done falls to one of its own kind; between
//        blocks everything is written. FOLDER gets the store.
// grid   of prompts of n tokens, k of them on disk, at a disk of each speed: the time to the
//        first token when all is loaded, all is computed, both at once, and as the planner
//        chooses. The KV on disk is zeros: its time does not depend on it.
// share  32 simultaneous requests that begin with the same 1000 tokens.
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <future>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/engine/engine.h"
#include "core/model/cpu_runner.h"
#include "core/model/load_model.h"
#include "core/model/sentence_encoder.h"
#include "core/similarity/faiss_index.h"
#include "core/store/memory_store.h"
#include "core/store/rocksdb_store.h"
#include "core/text/load_text.h"
#include "core/text/wordpiece_tokenizer.h"
#include "tests/bench/throttled_store.h"

namespace reprise::bench {
namespace {

constexpr int kBlock = 4;  // requests in a row with the cache on, or off

template <typename T>
T Check(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << "cache_bench: " << value.status() << std::endl;
  std::exit(1);
}

// An engine over a model and what it needs.
class Setup {
 public:
  Setup(const std::string& model, int64_t pool_bytes) : text_(Check(LoadText(model))) {
    CpuRunnerOptions options;
    options.kv_pool_bytes = pool_bytes;
    parts_.runner = Check(CreateCpuRunner(Check(LoadModel(model)), options));
    block_bytes_ = parts_.runner->block_bytes();
    vocabulary_ = std::min(parts_.runner->vocabulary_size(), text_.tokenizer->vocabulary_size());
    parts_.tokenizer = text_.tokenizer.get();
    parts_.metrics = &metrics_;
    parts_.clock = &clock_;
    parts_.load_way = &way_;
    parts_.identity.fill(7);
  }

  void UseStore(std::unique_ptr<KvStore> store) { parts_.store = std::move(store); }

  void UseEncoder(const std::string& folder) {
    const SentenceEncoderModel encoder = Check(LoadSentenceEncoder(folder, 1));
    const std::shared_ptr<const WordPieceTokenizer> pieces =
        Check(WordPieceTokenizer::Load(folder));
    parts_.embed = [encoder, pieces](const std::string& text) {
      return encoder.encode(pieces->Encode(text, static_cast<size_t>(encoder.max_tokens)));
    };
    parts_.vectors = CreateFaissIndex(encoder.dimensions);
  }

  void Start() { engine_ = Check(Engine::Create({}, std::move(parts_))); }

  std::future<GenerateResult> Begin(std::vector<TokenId> prompt, CachePolicy policy,
                                    int32_t output_tokens) {
    GenerateRequest request;
    for (const TokenId id : prompt) {
      for (const char c : text_.tokenizer->TokenBytes(id)) {
        if (absl::ascii_isprint(c)) request.prompt_text += c;
      }
    }
    request.prompt = std::move(prompt);
    request.max_output_tokens = output_tokens;
    request.ignore_eos = true;
    request.cache_policy = policy;
    request.received = clock_.Monotonic();
    const auto ended = std::make_shared<std::promise<GenerateResult>>();
    Check(engine_->Submit(request, {[](const TokenChunk&) {},
                                    [ended](const absl::Status&, GenerateResult result) {
                                      ended->set_value(std::move(result));
                                    }}));
    return ended->get_future();
  }

  std::vector<TokenId> Ids(int count) {
    std::vector<TokenId> ids(count);
    for (TokenId& id : ids) id = static_cast<TokenId>(random_() % vocabulary_);
    return ids;
  }

  Engine& engine() { return *engine_; }
  std::atomic<LoadWay>& way() { return way_; }
  int64_t block_bytes() const { return block_bytes_; }
  const Digest& identity() const { return parts_.identity; }

 private:
  LoadedText text_;
  const SystemClock clock_;
  Metrics metrics_;
  EngineParts parts_;
  std::atomic<LoadWay> way_{LoadWay::kBest};
  std::mt19937 random_{1};
  int64_t block_bytes_ = 0;
  int32_t vocabulary_ = 0;
  std::unique_ptr<Engine> engine_;
};

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::string List(const std::vector<double>& values) {
  return absl::StrCat(
      "[",
      absl::StrJoin(values, ", ",
                    [](std::string* out, double v) { absl::StrAppendFormat(out, "%.7g", v); }),
      "]");
}

struct ColdSamples {
  std::vector<double> first_token, lookup, cpu;  // cpu: of a block, per request
};

void RunBlock(Setup& setup, CachePolicy policy, const std::vector<int>& lengths,
              ColdSamples& samples) {
  const double before = CpuSeconds();
  for (const int length : lengths) {
    const GenerateResult r = setup.Begin(setup.Ids(length), policy, 8).get();
    samples.first_token.push_back(absl::ToDoubleSeconds(r.timings.time_to_first_token));
    samples.lookup.push_back(absl::ToDoubleSeconds(r.timings.lookup));
  }
  setup.engine().WaitUntilIdle(absl::Minutes(2));
  samples.cpu.push_back((CpuSeconds() - before) / static_cast<double>(lengths.size()));
}

int Cold(const std::string& model, const std::string& folder,
         const std::map<std::string, std::string>& flags) {
  Setup setup(model, int64_t{64} << 20);
  RocksDbOptions options;
  options.path = folder;
  std::unique_ptr<KvStore> store = Check(OpenRocksDbStore(options));
  const double rate = std::atof(flags.at("--disk-mb-per-second").c_str()) * 1e6;
  if (rate > 0) store = std::make_unique<ThrottledStore>(std::move(store), rate);
  setup.UseStore(std::move(store));
  if (!flags.at("--encoder").empty()) setup.UseEncoder(flags.at("--encoder"));
  setup.Start();
  std::mt19937 random(2);
  ColdSamples on, off, warm_up;
  const int pairs = std::atoi(flags.at("--pairs").c_str());
  RunBlock(setup, CachePolicy::kUse, {200, 200}, warm_up);
  for (int block = 0; block * kBlock < pairs; ++block) {
    std::vector<int> lengths;
    for (int i = 0; i < kBlock; ++i) lengths.push_back(100 + static_cast<int>(random() % 300));
    const bool on_first = block % 2 == 0;
    if (on_first) RunBlock(setup, CachePolicy::kUse, lengths, on);
    RunBlock(setup, CachePolicy::kBypass, lengths, off);
    if (!on_first) RunBlock(setup, CachePolicy::kUse, lengths, on);
  }
  std::cout << absl::StrFormat(
      "{\"on_first_token\": %s, \"off_first_token\": %s, \"on_lookup\": %s, \"on_cpu\": %s, "
      "\"off_cpu\": %s}\n",
      List(on.first_token), List(off.first_token), List(on.lookup), List(on.cpu), List(off.cpu));
  return 0;
}

// Puts the first `k` of `ids` into the store, as zeros.
void Plant(KvStore& store, const Setup& setup, absl::Span<const TokenId> ids) {
  std::vector<SegmentWrite> writes;
  SegmentKey parent = setup.identity();
  for (size_t at = 0; at + kSegmentTokens <= ids.size(); at += kSegmentTokens) {
    SegmentWrite write;
    SegmentRecord& record = write.record;
    record.ids.assign(ids.begin() + static_cast<int64_t>(at),
                      ids.begin() + static_cast<int64_t>(at) + kSegmentTokens);
    record.parent = parent;
    record.identity = setup.identity();
    record.start_position = static_cast<int32_t>(at);
    record.key = ComputeSegmentKey(record.kind, parent, record.ids);
    record.payload_bytes = setup.block_bytes() * kBlocksPerSegment;
    record.created_unix_ms = record.last_used_unix_ms = 1;
    parent = record.key;
    write.payload.resize(static_cast<size_t>(record.payload_bytes));
    writes.push_back(std::move(write));
  }
  if (const absl::Status status = store.WriteSegments(writes); !status.ok()) {
    std::cerr << "cache_bench: " << status << std::endl;
    std::exit(1);
  }
}

struct Cell {
  int n, k;
  std::map<LoadWay, std::vector<std::vector<TokenId>>> prompts;
  std::map<LoadWay, std::vector<double>> seconds;
};

constexpr LoadWay kWays[] = {LoadWay::kLoad, LoadWay::kCompute, LoadWay::kSplit, LoadWay::kBest};
constexpr const char* kWayNames[] = {"best", "compute", "load", "split"};  // by LoadWay

std::string MeasureTier(const std::string& model, double megabytes_per_second, int repeats) {
  Setup setup(model, int64_t{256} << 20);
  std::unique_ptr<KvStore> store = CreateMemoryStore();
  std::vector<Cell> cells;
  for (const int n : {200, 500, 1000}) {
    for (const int share : {30, 60, 95}) {
      Cell cell{n, n * share / 100 / kSegmentTokens * kSegmentTokens, {}, {}};
      if (cell.k == 0) continue;
      for (const LoadWay way : kWays) {
        for (int i = 0; i <= repeats; ++i) {
          cell.prompts[way].push_back(setup.Ids(n));
          Plant(*store, setup, absl::MakeSpan(cell.prompts[way].back()).subspan(0, cell.k));
        }
      }
      cells.push_back(std::move(cell));
    }
  }
  setup.UseStore(std::make_unique<ThrottledStore>(std::move(store), megabytes_per_second * 1e6));
  setup.Start();
  for (int i = 0; i <= repeats; ++i) {  // the first teaches the cost model
    for (Cell& cell : cells) {
      for (const LoadWay way : kWays) {
        setup.way() = way;
        const Timings t = setup.Begin(cell.prompts[way][i], CachePolicy::kUse, 1).get().timings;
        if (i > 0) cell.seconds[way].push_back(absl::ToDoubleSeconds(t.load + t.prefill));
      }
    }
  }
  std::string rows;
  for (const Cell& cell : cells) {
    absl::StrAppendFormat(&rows, "%s{\"n\": %d, \"k\": %d, \"disk_mb_per_second\": %g",
                          rows.empty() ? "" : ", ", cell.n, cell.k, megabytes_per_second);
    for (const auto& [way, seconds] : cell.seconds) {
      absl::StrAppend(&rows, ", \"", kWayNames[static_cast<int>(way)], "\": ", List(seconds));
    }
    rows += "}";
  }
  return rows;
}

int Grid(const std::string& model, int repeats) {
  std::string rows;
  for (const double rate : {2000.0, 50.0, 8.0}) {
    absl::StrAppend(&rows, rows.empty() ? "" : ", ", MeasureTier(model, rate, repeats));
  }
  std::cout << "{\"cells\": [" << rows << "]}\n";
  return 0;
}

int Share(const std::string& model) {
  constexpr int kRequests = 32, kPrefix = 1000, kOwn = 24;
  Setup setup(model, int64_t{128} << 20);
  setup.Start();
  const std::vector<TokenId> prefix = setup.Ids(kPrefix);
  std::vector<std::future<GenerateResult>> replies;
  for (int i = 0; i < kRequests; ++i) {
    std::vector<TokenId> prompt = prefix;
    const std::vector<TokenId> own = setup.Ids(kOwn);
    prompt.insert(prompt.end(), own.begin(), own.end());
    replies.push_back(setup.Begin(std::move(prompt), CachePolicy::kUse, 4));
  }
  int64_t computed = 0, in_flight = 0;
  std::vector<double> first_token;
  for (auto& reply : replies) {
    const GenerateResult r = reply.get();
    computed += r.usage.computed_tokens;
    in_flight += r.reuse.in_flight_tokens;
    first_token.push_back(absl::ToDoubleSeconds(r.timings.time_to_first_token));
  }
  const CacheStats stats = setup.engine().GetCacheStats();
  std::cout << absl::StrFormat(
      "{\"requests\": %d, \"computed_tokens\": %d, \"unique_tokens\": %d, "
      "\"in_flight_tokens\": %d, \"cached_blocks\": %d, \"cached_tokens\": %d, "
      "\"first_token\": %s}\n",
      kRequests, computed, kPrefix + kRequests * kOwn, in_flight, stats.host_cached_block_count,
      stats.host_cached_tokens, List(first_token));
  return 0;
}

[[noreturn]] void Usage() {
  std::cerr << "usage: cache_bench cold MODEL FOLDER [--pairs N] [--disk-mb-per-second R] "
               "[--encoder FOLDER] | grid MODEL [--repeats N] | share MODEL\n";
  std::exit(2);
}

int Main(int argc, char** argv) {
  const std::string mode = argc > 2 ? argv[1] : "";
  const int positional = mode == "cold" ? 4 : 3;
  if (argc < positional || (mode != "cold" && mode != "grid" && mode != "share")) Usage();
  std::map<std::string, std::string> flags{
      {"--pairs", "40"}, {"--disk-mb-per-second", "0"}, {"--encoder", ""}, {"--repeats", "3"}};
  for (int i = positional; i < argc; i += 2) {
    if (!flags.contains(argv[i]) || i + 1 == argc) Usage();
    flags[argv[i]] = argv[i + 1];
  }
  if (mode == "cold") return Cold(argv[2], argv[3], flags);
  if (mode == "grid") return Grid(argv[2], std::atoi(flags.at("--repeats").c_str()));
  return Share(argv[2]);
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) { return reprise::bench::Main(argc, argv); }
