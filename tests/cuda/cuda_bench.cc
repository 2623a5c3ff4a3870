// cuda_bench [TOKENS]: how long steps of the DialoGPT-medium shape take on the GPU, with random
// weights in fp16, in milliseconds from Step's call to its return. Medians of interleaved
// repeats after warm-up. Prints one JSON line; tests/cuda/torch_plain.py prints the same of
// an unconstrained torch model under CUDA graphs. With TOKENS
// only prompts of so many are computed, a few times and each kernel launched by itself, for a
// profiler.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <vector>

#include "core/model/cuda/cuda_runner.h"
#include "tests/bench/random_model.h"

namespace reprise {
namespace {

constexpr int kContext = 512;
constexpr int kRepeats = 50;
constexpr int kMaxSequences = 32;
constexpr int kTableBlocks = 64;

class Bench {
 public:
  explicit Bench(ModelRunner& runner) : runner_(runner), ids_(1024) {
    for (size_t i = 0; i < ids_.size(); ++i) {
      ids_[i] = static_cast<TokenId>(i * 7919 % runner.vocabulary_size());
    }
    for (int s = 0; s < kMaxSequences; ++s) {
      tables_[s].resize(kTableBlocks);
      std::iota(tables_[s].begin(), tables_[s].end(), s * kTableBlocks);
    }
  }

  // `sequences` steps of `tokens` each after `cached` tokens.
  double Milliseconds(int sequences, int tokens, int cached, int repeats = kRepeats) {
    StepBatch batch;
    for (int s = 0; s < sequences; ++s) {
      StepSequence sequence;
      sequence.tokens = absl::MakeConstSpan(ids_).subspan(cached, tokens);
      sequence.start_position = cached;
      sequence.block_table = tables_[s];
      sequence.sample = true;
      batch.sequences.push_back(sequence);
    }
    std::vector<double> times;
    for (int i = 0; i < repeats + 3; ++i) {
      const auto start = std::chrono::steady_clock::now();
      const auto result = runner_.Step(batch);
      const std::chrono::duration<double, std::milli> taken =
          std::chrono::steady_clock::now() - start;
      if (!result.ok()) {
        std::cerr << "cuda_bench: " << result.status() << std::endl;
        std::exit(2);
      }
      if (i >= 3) times.push_back(taken.count());
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  void FillContexts() {
    for (int s = 0; s < kMaxSequences; ++s) {
      StepSequence sequence;
      sequence.tokens = absl::MakeConstSpan(ids_).subspan(0, kContext);
      sequence.block_table = tables_[s];
      if (!runner_.Step({{sequence}}).ok()) std::exit(2);
    }
  }

 private:
  ModelRunner& runner_;
  std::vector<TokenId> ids_;
  std::vector<BlockId> tables_[kMaxSequences];
};

int Main(int profiled_tokens) {
  const LoadedModel model = bench::RandomGpt2Medium();
  CudaRunnerOptions options;
  options.capture_graphs = profiled_tokens == 0;
  options.kv_pool_bytes = int64_t{98304} * kBlockTokens * kTableBlocks * kMaxSequences;
  auto runner = CreateCudaRunner(model, options);
  if (!runner.ok()) {
    std::cerr << "cuda_bench: " << runner.status() << std::endl;
    return 2;
  }
  Bench bench(**runner);
  if (profiled_tokens > 0) {
    bench.Milliseconds(1, profiled_tokens, 0, 1);
    return 0;
  }
  bench.FillContexts();
  std::printf("{\"numerics\": \"%s\"", (*runner)->numerics_id().c_str());
  for (const int sequences : {1, 8, 32}) {
    std::printf(", \"decode_%d_ms\": %.3f", sequences, bench.Milliseconds(sequences, 1, kContext));
  }
  for (const int tokens : {16, 40, 64, 128, 256, 512, 1023}) {
    std::printf(", \"prefill_%d_ms\": %.3f", tokens, bench.Milliseconds(1, tokens, 0));
  }
  std::printf(", \"suffix_40_of_1000_ms\": %.3f", bench.Milliseconds(1, 40, 960));
  std::printf(", \"prefill_1000_ms\": %.3f}\n", bench.Milliseconds(1, 1000, 0));
  return 0;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) { return reprise::Main(argc > 1 ? std::atoi(argv[1]) : 0); }
