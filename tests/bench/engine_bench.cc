// Measures the CPU engine in process, over the same quantities as the peers of
// tests/bench/peers, and prints the same line of JSON (see peers/common.py).
//
//   engine_bench MODEL --dtype D [--threads T] [--repeats N] [--batch 8,32] [--kv bf16|fp32]
//                [--floor PAIRS]
//
// MODEL is a GGUF file or a Hugging Face folder. A prefill is one Step over the
// whole prompt; decoding runs kDecodeSteps greedy steps after a context of 512.
// Each batch of --batch adds the figure decode_ms_at_512_batch_B, the time of
// a step of B sequences. Samples of all figures are taken in turn.
//
// --floor adds as many pairs of the samples decode_pair_ms, a step of kPairSteps, and
// decode_pair_floor_ms: decode_bytes, which are the packed weights that a step reads and the
// context's KV, over the mean read bandwidth just before and just after it, at --threads.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "core/model/cpu_runner.h"
#include "core/model/load_model.h"
#include "tests/bench/dtype_names.h"
#include "tests/bench/floors.h"
#include "tests/bench/model_sizes.h"

namespace reprise {
namespace {

constexpr int kContext = 512;
constexpr int kSuffix = 32;
constexpr int kDecodeSteps = 24;
constexpr int kPairSteps = 8;  // few enough for bandwidth not to change meanwhile
constexpr int kPrefills[] = {kContext + kSuffix, 1000};
constexpr int kPromptBlocks = (1000 + kBlockTokens - 1) / kBlockTokens;
constexpr int kDecodeBlocks = (kContext + kDecodeSteps + kBlockTokens - 1) / kBlockTokens;

struct Options {
  std::string path;
  std::string dtype_name;
  CpuRunnerOptions runner;
  int repeats = 3;
  int floor_pairs = 0;
  std::vector<int> batches = {1};
};

[[noreturn]] void Fail(absl::string_view message) { bench::Fail("engine_bench", message); }

template <typename T>
T Check(absl::StatusOr<T> value) {
  if (!value.ok()) Fail(value.status().ToString());
  return *std::move(value);
}

int ParseCount(absl::string_view text) {
  int value;
  if (!absl::SimpleAtoi(text, &value) || value < 1 || value > 1024) {
    Fail(absl::StrCat("expected a count of 1 to 1024, not ", std::string(text)));
  }
  return value;
}

void SetOption(absl::string_view name, absl::string_view value, Options& options) {
  if (name == "--dtype") {
    options.dtype_name = std::string(value);
    options.runner.weights = bench::ParseName("engine_bench", bench::kWeightNames, value);
  } else if (name == "--kv") {
    options.runner.kv_dtype = bench::ParseName("engine_bench", bench::kKvNames, value);
  } else if (name == "--threads") {
    options.runner.num_threads = ParseCount(value);
  } else if (name == "--repeats") {
    options.repeats = ParseCount(value);
  } else if (name == "--floor") {
    options.floor_pairs = ParseCount(value);
  } else if (name == "--batch") {
    for (const absl::string_view batch : absl::StrSplit(value, ',')) {
      if (const int count = ParseCount(batch); count > 1) options.batches.push_back(count);
    }
  } else {
    Fail(absl::StrCat("unknown option ", std::string(name)));
  }
}

Options ParseOptions(int argc, char** argv) {
  if (argc < 4 || argc % 2 != 0) {
    Fail(
        "usage: engine_bench MODEL --dtype D [--threads T] [--repeats N] [--batch 8,32] [--kv K] "
        "[--floor PAIRS]");
  }
  Options options;
  options.path = argv[1];
  options.runner.num_threads = 1;
  for (int i = 2; i < argc; i += 2) SetOption(argv[i], argv[i + 1], options);
  if (options.dtype_name.empty()) Fail("--dtype is missing");
  return options;
}

// The ids of peers/common.py's prompt_ids().
std::vector<TokenId> PromptIds(int32_t vocabulary, int count) {
  uint64_t state = 12345;
  std::vector<TokenId> ids(count);
  for (TokenId& id : ids) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    id = static_cast<TokenId>(300 + (state >> 33) % (vocabulary - 600));
  }
  return ids;
}

// Sequence 0 holds prompts; the others hold copies of its first kContext tokens.
class EngineBench {
 public:
  EngineBench(const LoadedModel& model, const Options& options)
      : max_batch_(*std::max_element(options.batches.begin(), options.batches.end())) {
    CpuRunnerOptions runner = options.runner;
    const ModelConfig& c = model.config;
    const int64_t block_bytes = int64_t{2} * c.num_layers * c.num_kv_heads * kBlockTokens *
                                c.head_dim * DtypeBytes(runner.kv_dtype);
    runner.kv_pool_bytes = (kPromptBlocks + (max_batch_ - 1) * kDecodeBlocks) * block_bytes;
    runner_ = Check(CreateCpuRunner(model, runner));
    model.weights->DropPages();
    ids_ = PromptIds(runner_->vocabulary_size(), kPrefills[1]);
    for (int i = 0; i < max_batch_; ++i) {
      tables_.emplace_back(i == 0 ? kPromptBlocks : kDecodeBlocks);
      const int first = i == 0 ? 0 : kPromptBlocks + (i - 1) * kDecodeBlocks;
      std::iota(tables_.back().begin(), tables_.back().end(), first);
    }
  }

  const std::string& numerics_id() const { return runner_->numerics_id(); }

  // Copies the context that a prefill has left in sequence 0 to the others.
  void ShareContext() {
    for (int i = 1; i < max_batch_; ++i) {
      for (int block = 0; block < kContext / kBlockTokens; ++block) {
        const absl::Status copied =
            runner_->CopyBlock(tables_[0][block], tables_[i][block], kBlockTokens);
        if (!copied.ok()) Fail(copied.ToString());
      }
    }
  }

  // Milliseconds of one Step over the prompt's tokens [start, start + length).
  double Prefill(int start, int length) {
    StepBatch batch;
    batch.sequences.push_back(Sequence(0, absl::MakeSpan(ids_).subspan(start, length), start));
    return Step(batch);
  }

  // Bytes of the context of one sequence.
  double ContextBytes() const {
    return static_cast<double>(runner_->block_bytes()) * kContext / kBlockTokens;
  }

  // Milliseconds per step of `size` sequences from kContext on, over `steps` of them.
  double Decode(int size, int steps = kDecodeSteps) {
    std::vector<TokenId> tokens(size, ids_[kContext]);
    double total = 0;
    for (int step = 0; step < steps; ++step) {
      StepBatch batch;
      for (int i = 0; i < size; ++i) {
        batch.sequences.push_back(Sequence(i, {&tokens[i], 1}, kContext + step));
      }
      total += Step(batch);
      tokens = sampled_;
    }
    return total / steps;
  }

 private:
  StepSequence Sequence(int index, absl::Span<const TokenId> tokens, int start) const {
    StepSequence sequence;
    sequence.tokens = tokens;
    sequence.start_position = start;
    sequence.block_table = tables_[index];
    sequence.sample = true;
    return sequence;
  }

  double Step(const StepBatch& batch) {
    const absl::Time start = absl::Now();
    sampled_ = Check(runner_->Step(batch)).tokens;
    return absl::ToDoubleMilliseconds(absl::Now() - start);
  }

  int max_batch_;
  std::unique_ptr<ModelRunner> runner_;
  std::vector<TokenId> ids_;
  std::vector<std::vector<BlockId>> tables_;
  std::vector<TokenId> sampled_;
};

using Samples = std::map<std::string, std::vector<double>>;

Samples Measure(EngineBench& engine, const Options& options) {
  Samples samples;
  engine.Prefill(0, kContext);  // also what decoding warms up on
  engine.ShareContext();
  engine.Decode(1);
  for (int i = 0; i < options.repeats; ++i) {
    for (const int length : kPrefills) {
      samples[absl::StrFormat("prefill_%d_ms", length)].push_back(engine.Prefill(0, length));
    }
    samples["prefill_32_ms_at_512"].push_back(engine.Prefill(kContext, kSuffix));
    for (const int batch : options.batches) {
      const std::string suffix = batch == 1 ? "" : absl::StrFormat("_batch_%d", batch);
      samples["decode_ms_at_512" + suffix].push_back(engine.Decode(batch));
    }
  }
  return samples;
}

// The pairs of --floor. `bytes` are what a step reads.
void MeasureFloor(EngineBench& engine, const Options& options, double bytes, Samples& samples) {
  if (options.floor_pairs == 0) return;
  ThreadPool pool(options.runner.num_threads, [] {});
  const bench::BandwidthProbe probe;
  // Workers that have just worked spin for a while, on cores that the next to work needs.
  const auto rest = [] { absl::SleepFor(absl::Milliseconds(3)); };
  const auto bandwidth = [&] {
    rest();
    const double measured = probe.Measure(pool);
    rest();
    return measured;
  };
  engine.Prefill(0, kContext);
  for (int i = 0; i < options.floor_pairs; ++i) {
    const double before = bandwidth();
    samples["decode_pair_ms"].push_back(engine.Decode(1, kPairSteps));
    const double mean = (before + bandwidth()) / 2;
    samples["decode_pair_floor_ms"].push_back(1e3 * bytes / mean);
  }
}

struct Report {
  std::string numerics_id;
  double decode_bytes;
  Samples samples;
};

void Print(const Options& options, const Report& report) {
  std::vector<std::string> lists, medians;
  for (const auto& [name, values] : report.samples) {
    lists.push_back(absl::StrFormat("\"%s\":[%s]", name, absl::StrJoin(values, ",")));
    medians.push_back(absl::StrFormat("\"%s\":%.3f", name, bench::Median(values)));
  }
  std::cout << absl::StrFormat(
      "{\"peer\":\"reprise\",\"version\":\"%s\",\"model\":\"%s\",\"dtype\":\"%s\",\"threads\":%d,"
      "\"setting\":\"\",\"flags\":\"kv=%s\",\"repeats\":%d,"
      "\"decode_bytes\":%.0f,\"samples\":{%s},%s}\n",
      report.numerics_id, options.path, options.dtype_name, options.runner.num_threads,
      DtypeName(options.runner.kv_dtype), options.repeats, report.decode_bytes,
      absl::StrJoin(lists, ","), absl::StrJoin(medians, ","));
}

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  const LoadedModel model = Check(LoadModel(options.path));
  EngineBench engine(model, options);
  Report report{engine.numerics_id(),
                bench::CountWeights(model, options.runner.weights).bytes + engine.ContextBytes(),
                Measure(engine, options)};
  MeasureFloor(engine, options, report.decode_bytes, report.samples);
  Print(options, report);
  return 0;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) { return reprise::Main(argc, argv); }
