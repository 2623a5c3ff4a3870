// exactness_trials TRIALS [LARGE_TRIALS [SMOLLM2.gguf [SEED]]]: random trials of the exactness
// contract, for `make verify-engine`.
//
// Each trial computes one prompt twice: cold, in one step alone on one thread, and then
// in another way: the first tokens' KV is reused from an earlier sequence (its blocks
// shared and the last one copied, or evicted and loaded from their bytes), the rest is
// computed in random pieces beside 0 to 31 other sequences on one or two threads. All KV
// and the last logits must be equal, bit for bit. TRIALS run on two-layer models of real
// head sizes over every architecture, weight format and KV dtype, LARGE_TRIALS on
// SmolLM2 and the DialoGPT-medium shape. Last, kernels planted wrong must be caught.
//
// Prints a row for each configuration: trials, tokens reused by how, differing trials.
// Exit code 1 when a bit differs, a row reused nothing, or a planted kernel passes.
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

#include "core/model/cpu_runner.h"
#include "core/model/kernels.h"
#include "tests/bench/exactness_trial.h"
#include "tests/bench/random_model.h"
#include "tests/fakes/planted_kernels.h"
#include "tests/fakes/random_model.h"

namespace reprise {
namespace {

using trials::Configuration;
using trials::Fail;
using trials::MakeRunner;
using trials::Report;
using trials::Tally;
using trials::TwoLayers;

struct Format {
  const char* name;
  WeightChoice choice;
  StorageType storage;
};
constexpr Format kFormats[] = {{"fp32", WeightChoice::kFp32, StorageType::kF32},
                               {"bf16", WeightChoice::kBf16, StorageType::kF32},
                               {"fp16", WeightChoice::kFp16, StorageType::kF32},
                               {"int8", WeightChoice::kInt8, StorageType::kF32},
                               {"q8_0", WeightChoice::kAsStored, StorageType::kQ8_0},
                               {"q4_0", WeightChoice::kAsStored, StorageType::kQ4_0},
                               {"q4_1", WeightChoice::kAsStored, StorageType::kQ4_1},
                               {"q4_k", WeightChoice::kAsStored, StorageType::kQ4_K}};
constexpr Dtype kKvDtypes[] = {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16};

// Runners on one thread and on two.
MakeRunner OnThreads(const Kernels& kernels, const LoadedModel& model,
                     const CpuRunnerOptions& base) {
  return [&kernels, model, base](int index, int64_t blocks) {
    CpuRunnerOptions options = base;
    options.num_threads = index + 1;
    const ModelConfig& c = model.config;
    options.kv_pool_bytes = blocks * 2 * c.num_layers * c.num_kv_heads * kBlockTokens * c.head_dim *
                            DtypeBytes(options.kv_dtype);
    return CreateCpuRunnerWith(kernels, model, options);
  };
}

void RunSmall(int trials, std::mt19937& random, Report& report) {
  constexpr int kMaxPrompt = 600;
  const Kernels& kernels = *SelectKernels("");
  const ModelConfig shapes[] = {
      TwoLayers("gpt2, 16 x 64", Architecture::kGpt2, 16, 16, 64),
      TwoLayers("llama, 8 of 2 x 64", Architecture::kLlama, 8, 2, 64),
      TwoLayers("llama, 8 of 4 x 128", Architecture::kLlama, 8, 4, 128),
      TwoLayers("gpt_neo, 12 x 64", Architecture::kGptNeo, 12, 12, 64),
      TwoLayers("qwen2, 12 of 2 x 128", Architecture::kQwen2, 12, 2, 128),
      TwoLayers("gemma3, 4 of 1 x 256", Architecture::kGemma3, 4, 1, 256)};
  const int configurations =
      static_cast<int>(std::size(shapes) * std::size(kFormats) * std::size(kKvDtypes));
  const int each = (trials + configurations - 1) / configurations;
  for (const ModelConfig& shape : shapes) {
    for (const Format& format : kFormats) {
      const LoadedModel model = RandomModelBuilder(shape, format.storage).Build();
      for (const Dtype kv : kKvDtypes) {
        CpuRunnerOptions options;
        options.weights = format.choice;
        options.kv_dtype = kv;
        Tally tally;
        Configuration(OnThreads(kernels, model, options), kMaxPrompt)
            .RunTrials(each, random, tally);
        report.Add(shape.name + ", " + format.name + ", kv " + DtypeName(kv), tally);
      }
    }
  }
}

void RunLarge(int trials, const std::string& smollm2, std::mt19937& random, Report& report) {
  constexpr int kMaxPrompt = 200;
  const Kernels& kernels = *SelectKernels("");
  for (const WeightChoice choice : {WeightChoice::kAsStored, WeightChoice::kBf16}) {
    const auto model = LoadModel(smollm2);
    if (!model.ok()) Fail(model.status());
    CpuRunnerOptions options;
    options.weights = choice;
    Tally tally;
    Configuration(OnThreads(kernels, *model, options), kMaxPrompt)
        .RunTrials(trials / 4, random, tally);
    report.Add(std::string("SmolLM2-135M, ") + WeightChoiceName(choice), tally);
  }
  const LoadedModel medium = bench::RandomGpt2Medium();
  for (const WeightChoice choice : {WeightChoice::kBf16, WeightChoice::kInt8}) {
    CpuRunnerOptions options;
    options.weights = choice;
    Tally tally;
    Configuration(OnThreads(kernels, medium, options), kMaxPrompt)
        .RunTrials(trials / 4, random, tally);
    report.Add(std::string("DialoGPT-medium shape, ") + WeightChoiceName(choice), tally);
  }
}

// In fp32, since rounding to fewer bits hides most differences of the last one.
void RunPlanted(std::mt19937& random, Report& report) {
  const Kernels& clean = *SelectKernels("");
  const LoadedModel model = RandomModelBuilder(Architecture::kGpt2).Build();
  CpuRunnerOptions options;
  options.weights = WeightChoice::kFp32;
  options.kv_dtype = Dtype::kFloat32;
  const auto run = [&](const char* name, const Kernels& planted) {
    Tally tally;
    Configuration(OnThreads(planted, model, options), 150).RunTrials(20, random, tally);
    report.Planted(name, tally);
  };
  run("split-K product", PlantSplitReduction(clean));
  run("batch-dependent attention", PlantBatchDependentAttention(clean));
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) {
  const int trials = argc > 1 ? std::atoi(argv[1]) : 0;
  const int large = argc > 2 ? std::atoi(argv[2]) : 0;
  if (trials < 1 || large < 0 || argc > 5) {
    std::cerr << "usage: exactness_trials TRIALS [LARGE_TRIALS [SMOLLM2.gguf [SEED]]]\n";
    return 2;
  }
  std::mt19937 random(argc > 4 ? std::atoi(argv[4]) : 1);
  reprise::trials::Report report;
  reprise::RunSmall(trials, random, report);
  if (large > 0) {
    reprise::RunLarge(large, argc > 3 ? argv[3] : "models/SmolLM2-135M-Instruct.Q4_1.gguf", random,
                      report);
  }
  reprise::RunPlanted(random, report);
  return report.End();
}
