// cuda_exactness_trials TRIALS [LARGE_TRIALS [SEED]]: random trials of the exactness
// contract (tests/bench/exactness_trial.h) on the GPU. One of the two runners of a
// configuration replays captured graphs, the other launches kernels one by one.
//
// TRIALS run on two-layer models of real head sizes over every architecture and half
// dtype, LARGE_TRIALS on the DialoGPT-medium shape. Last, launches planted wrong must be
// caught. Exit code 1 when a bit differs, a row reused nothing, or a planted one passes.
#include "core/model/cuda/cuda_runner.h"
#include "tests/bench/exactness_trial.h"
#include "tests/bench/random_model.h"
#include "tests/cuda/planted_kernels.h"

namespace reprise::trials {
namespace {

struct Dtypes {
  Dtype weights, kv;
};
constexpr Dtypes kDtypes[] = {{Dtype::kFloat16, Dtype::kFloat16},
                              {Dtype::kBfloat16, Dtype::kBfloat16},
                              {Dtype::kFloat16, Dtype::kBfloat16}};

MakeRunner OnGpu(const cuda::Kernels& kernels, const LoadedModel& model, Dtypes dtypes) {
  return [&kernels, &model, dtypes](int index, int64_t blocks) {
    CudaRunnerOptions options;
    options.weight_dtype = dtypes.weights;
    options.kv_dtype = dtypes.kv;
    options.capture_graphs = index == 0;
    const ModelConfig& c = model.config;
    const int64_t padded_dim = (c.head_dim + 31) / 32 * 32;
    options.kv_pool_bytes = blocks * 4 * c.num_layers * c.num_kv_heads * kBlockTokens * padded_dim;
    return CreateCudaRunnerWith(kernels, model, options);
  };
}

std::string Name(const std::string& shape, Dtypes dtypes) {
  return shape + ", " + DtypeName(dtypes.weights) + ", kv " + DtypeName(dtypes.kv);
}

void RunSmall(int trials, std::mt19937& random, Report& report) {
  constexpr int kMaxPrompt = 600;
  const cuda::Kernels kernels;
  const ModelConfig shapes[] = {
      TwoLayers("gpt2, 16 x 64", Architecture::kGpt2, 16, 16, 64),
      TwoLayers("llama, 8 of 2 x 64", Architecture::kLlama, 8, 2, 64),
      TwoLayers("llama, 8 of 4 x 128", Architecture::kLlama, 8, 4, 128),
      TwoLayers("llama, 9 of 3 x 80", Architecture::kLlama, 9, 3, 80),
      TwoLayers("gpt_neo, 12 x 64", Architecture::kGptNeo, 12, 12, 64),
      TwoLayers("qwen2, 12 of 2 x 128", Architecture::kQwen2, 12, 2, 128),
      TwoLayers("gemma3, 4 of 1 x 256", Architecture::kGemma3, 4, 1, 256)};
  const int configurations = static_cast<int>(std::size(shapes) * std::size(kDtypes));
  const int each = (trials + configurations - 1) / configurations;
  for (const ModelConfig& shape : shapes) {
    const LoadedModel model = RandomModelBuilder(shape).Build();
    for (const Dtypes dtypes : kDtypes) {
      Tally tally;
      Configuration(OnGpu(kernels, model, dtypes), kMaxPrompt).RunTrials(each, random, tally);
      report.Add(Name(shape.name, dtypes), tally);
    }
  }
}

void RunLarge(int trials, std::mt19937& random, Report& report) {
  const cuda::Kernels kernels;
  const LoadedModel medium = bench::RandomGpt2Medium();
  Tally tally;
  Configuration(OnGpu(kernels, medium, kDtypes[0]), 1000).RunTrials(trials, random, tally);
  report.Add(Name("DialoGPT-medium shape", kDtypes[0]), tally);
}

void RunPlanted(std::mt19937& random, Report& report) {
  const LoadedModel model = RandomModelBuilder(Architecture::kGpt2).Build();
  const auto run = [&](const char* name, const cuda::Kernels& planted) {
    Tally tally;
    Configuration(OnGpu(planted, model, kDtypes[0]), 150).RunTrials(20, random, tally);
    report.Planted(name, tally);
  };
  run("split-K product", cuda::PlantSplitReduction());
  run("batch-dependent attention", cuda::PlantBatchDependentAttention());
}

}  // namespace
}  // namespace reprise::trials

int main(int argc, char** argv) {
  const int trials = argc > 1 ? std::atoi(argv[1]) : 0;
  const int large = argc > 2 ? std::atoi(argv[2]) : 0;
  if (trials < 1 || large < 0 || argc > 4) {
    std::cerr << "usage: cuda_exactness_trials TRIALS [LARGE_TRIALS [SEED]]\n";
    return 2;
  }
  std::mt19937 random(argc > 3 ? std::atoi(argv[3]) : 1);
  reprise::trials::Report report;
  reprise::trials::RunSmall(trials, random, report);
  if (large > 0) reprise::trials::RunLarge(large, random, report);
  reprise::trials::RunPlanted(random, report);
  return report.End();
}
