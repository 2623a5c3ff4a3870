// Measures the CPU engine in process, over the same quantities as the peers of
// tests/bench/peers, and prints the same line of JSON (see peers/common.py).
//
//   engine_bench MODEL --dtype D [--threads T] [--repeats N] [--batch 8,32] [--kv bf16|fp32]
//
// MODEL is a GGUF file or a Hugging Face folder. A prefill is one Step over the
// whole prompt; decoding runs kDecodeSteps greedy steps after a context of 512.
// Each batch of --batch adds the figure decode_ms_at_512_batch_B, the time of
// a step of B sequences. Samples of all figures are taken in turn.
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

namespace reprise {
namespace {

constexpr int kContext = 512;
constexpr int kSuffix = 32;
constexpr int kDecodeSteps = 24;
constexpr int kPrefills[] = {kContext + kSuffix, 1000};
constexpr int kPromptBlocks = (1000 + kBlockTokens - 1) / kBlockTokens;
constexpr int kDecodeBlocks = (kContext + kDecodeSteps + kBlockTokens - 1) / kBlockTokens;

struct Options {
  std::string path;
  std::string dtype_name;
  CpuRunnerOptions runner;
  int repeats = 3;
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
    Fail("usage: engine_bench MODEL --dtype D [--threads T] [--repeats N] [--batch 8,32] [--kv K]");
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

  // Milliseconds per step of `size` sequences from kContext on.
  double Decode(int size) {
    std::vector<TokenId> tokens(size, ids_[kContext]);
    double total = 0;
    for (int step = 0; step < kDecodeSteps; ++step) {
      StepBatch batch;
      for (int i = 0; i < size; ++i) {
        batch.sequences.push_back(Sequence(i, {&tokens[i], 1}, kContext + step));
      }
      total += Step(batch);
      tokens = sampled_;
    }
    return total / kDecodeSteps;
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

Samples Measure(EngineBench& bench, const Options& options) {
  Samples samples;
  bench.Prefill(0, kContext);  // also what decoding warms up on
  bench.ShareContext();
  bench.Decode(1);
  for (int i = 0; i < options.repeats; ++i) {
    for (const int length : kPrefills) {
      samples[absl::StrFormat("prefill_%d_ms", length)].push_back(bench.Prefill(0, length));
    }
    samples["prefill_32_ms_at_512"].push_back(bench.Prefill(kContext, kSuffix));
    for (const int batch : options.batches) {
      const std::string suffix = batch == 1 ? "" : absl::StrFormat("_batch_%d", batch);
      samples["decode_ms_at_512" + suffix].push_back(bench.Decode(batch));
    }
  }
  return samples;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[values.size() / 2] + values[(values.size() - 1) / 2]) / 2;
}

void Print(const Options& options, const std::string& numerics_id, const Samples& samples) {
  std::vector<std::string> lists, medians;
  for (const auto& [name, values] : samples) {
    lists.push_back(absl::StrFormat("\"%s\":[%s]", name, absl::StrJoin(values, ",")));
    medians.push_back(absl::StrFormat("\"%s\":%.3f", name, Median(values)));
  }
  std::cout << absl::StrFormat(
      "{\"peer\":\"reprise\",\"version\":\"%s\",\"model\":\"%s\",\"dtype\":\"%s\",\"threads\":%d,"
      "\"setting\":\"\",\"flags\":\"kv=%s\",\"repeats\":%d,\"samples\":{%s},%s}\n",
      numerics_id, options.path, options.dtype_name, options.runner.num_threads,
      DtypeName(options.runner.kv_dtype), options.repeats, absl::StrJoin(lists, ","),
      absl::StrJoin(medians, ","));
}

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  EngineBench bench(Check(LoadModel(options.path)), options);
  const Samples samples = Measure(bench, options);
  Print(options, bench.numerics_id(), samples);
  return 0;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) { return reprise::Main(argc, argv); }
