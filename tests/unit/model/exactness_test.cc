// KV and logits compared bit for bit with a cold single pass.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "core/model/cpu_runner.h"
#include "core/model/kernels.h"
#include "tests/fakes/planted_kernels.h"
#include "tests/fakes/random_model.h"

namespace reprise {
namespace {

struct Trace {
  std::vector<uint8_t> kv;
  std::vector<float> logits;
  bool operator==(const Trace& other) const {
    return kv == other.kv && logits.size() == other.logits.size() &&
           std::memcmp(logits.data(), other.logits.data(), logits.size() * sizeof(float)) == 0;
  }
};

struct Format {
  const char* name;
  WeightChoice choice;
  StorageType storage;
  Dtype kv_dtype;
  Architecture architecture;
};

struct Case {
  Format format;
  const char* instruction_set;
};

constexpr Format kFormats[] = {
    {"Fp32", WeightChoice::kFp32, StorageType::kF32, Dtype::kFloat32, Architecture::kGpt2},
    {"Bf16", WeightChoice::kBf16, StorageType::kF32, Dtype::kBfloat16, Architecture::kLlama},
    {"Fp16", WeightChoice::kFp16, StorageType::kF32, Dtype::kFloat16, Architecture::kLlama},
    {"Int8", WeightChoice::kInt8, StorageType::kF32, Dtype::kBfloat16, Architecture::kGpt2},
    {"Q8_0", WeightChoice::kAsStored, StorageType::kQ8_0, Dtype::kBfloat16, Architecture::kLlama},
    {"Q4_0", WeightChoice::kAsStored, StorageType::kQ4_0, Dtype::kFloat32, Architecture::kGpt2},
    {"Q4_1", WeightChoice::kAsStored, StorageType::kQ4_1, Dtype::kBfloat16, Architecture::kLlama},
    {"Q4_K", WeightChoice::kAsStored, StorageType::kQ4_K, Dtype::kFloat16, Architecture::kLlama},
    {"NeoFp32", WeightChoice::kFp32, StorageType::kF32, Dtype::kFloat32, Architecture::kGptNeo},
    {"NeoInt8", WeightChoice::kInt8, StorageType::kF32, Dtype::kBfloat16, Architecture::kGptNeo},
    {"QwenQ8", WeightChoice::kAsStored, StorageType::kQ8_0, Dtype::kBfloat16, Architecture::kQwen2},
    {"GemmaFp32", WeightChoice::kFp32, StorageType::kF32, Dtype::kFloat32, Architecture::kGemma3},
    {"GemmaBf16", WeightChoice::kBf16, StorageType::kF32, Dtype::kBfloat16, Architecture::kGemma3},
    {"GemmaQ4_K", WeightChoice::kAsStored, StorageType::kQ4_K, Dtype::kFloat16,
     Architecture::kGemma3}};

std::vector<Case> AllCases(absl::Span<const Format> formats) {
  std::vector<Case> cases;
  for (const char* instruction_set : {"avx512bf16", "avx512", "avx2", "portable"}) {
    for (const Format& format : formats) cases.push_back({format, instruction_set});
  }
  return cases;
}

class ExactnessTest : public ::testing::TestWithParam<Case> {
 protected:
  static constexpr int kTokens = 150;
  static constexpr int kVocabulary = 331;
  static constexpr int kThreads = 2;
  static constexpr int kBlocks = (kTokens + kBlockTokens - 1) / kBlockTokens;

  void SetUp() override {
    kernels_ = SelectKernels(GetParam().instruction_set);
    if (kernels_ == nullptr) GTEST_SKIP() << "not on this CPU";
  }

  std::unique_ptr<ModelRunner> MakeRunner(int threads, const Kernels& kernels) {
    CpuRunnerOptions options;
    options.num_threads = threads;
    const Format& format = GetParam().format;
    options.weights = format.choice;
    options.kv_dtype = format.kv_dtype;
    options.kv_pool_bytes = int64_t{32} << 20;
    const LoadedModel model = RandomModelBuilder(format.architecture, format.storage).Build();
    auto runner = CreateCpuRunnerWith(kernels, model, options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    return *std::move(runner);
  }

  // Runs `tokens` in pieces ending at `ends`, with `mates` other sequences beside.
  Trace Run(ModelRunner& runner, const std::vector<TokenId>& tokens, const std::vector<int>& ends,
            int mates) {
    std::vector<std::vector<BlockId>> tables(mates + 1, std::vector<BlockId>(kBlocks));
    for (int m = 0; m <= mates; ++m) std::iota(tables[m].begin(), tables[m].end(), m * kBlocks);
    Trace trace;
    int start = 0;
    for (const int end : ends) {
      StepBatch batch;
      for (int m = mates; m >= 0; --m) {
        StepSequence s;
        s.tokens = absl::MakeConstSpan(tokens).subspan(start, m == 0 ? end - start : 1);
        s.start_position = m == 0 ? start : 0;
        s.block_table = tables[m];
        s.want_logits = m == 0 && end == kTokens;
        batch.sequences.push_back(s);
      }
      auto result = runner.Step(batch);
      EXPECT_TRUE(result.ok()) << result.status();
      trace.logits = result->logits.back();
      start = end;
    }
    trace.kv.resize(kBlocks * runner.block_bytes());
    for (int b = 0; b < kBlocks; ++b) {
      EXPECT_TRUE(runner
                      .ReadBlock(tables[0][b], absl::MakeSpan(trace.kv).subspan(
                                                   b * runner.block_bytes(), runner.block_bytes()))
                      .ok());
    }
    return trace;
  }

  static std::vector<TokenId> RandomTokens() {
    std::mt19937 random(3);
    std::vector<TokenId> tokens(kTokens);
    for (TokenId& token : tokens) token = static_cast<TokenId>(random() % kVocabulary);
    return tokens;
  }

  // The first run over random splits and batch mates that differs from a cold single
  // pass, or nullopt.
  std::optional<int> FirstDifference(const Kernels& kernels) {
    std::mt19937 random(4);
    const std::vector<TokenId> tokens = RandomTokens();
    const Trace cold = Run(*MakeRunner(1, kernels), tokens, {kTokens}, 0);
    EXPECT_EQ(cold.logits.size(), size_t{kVocabulary});
    const auto runner = MakeRunner(kThreads, kernels);
    // Scalar code is slow, under sanitizers above all.
    const int trials = std::string(GetParam().instruction_set) == "portable" ? 2 : 12;
    for (int trial = 0; trial < trials; ++trial) {
      std::vector<int> ends = {kTokens};
      for (uint32_t cut = random() % 6; cut > 0; --cut) {
        ends.push_back(1 + static_cast<int>(random() % (kTokens - 1)));
      }
      if (trial == 0) ends.push_back(kTokens - 1);  // the last token alone
      std::sort(ends.begin(), ends.end());
      ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
      if (!(Run(*runner, tokens, ends, static_cast<int>(random() % 4)) == cold)) return trial;
    }
    return std::nullopt;
  }

  const Kernels* kernels_ = nullptr;
};

TEST_P(ExactnessTest, SplitsMatesAndThreadsChangeNoBit) {
  EXPECT_EQ(FirstDifference(*kernels_), std::nullopt);
}

TEST_P(ExactnessTest, ADifferentTokenIsSeen) {
  const auto runner = MakeRunner(1, *kernels_);
  std::vector<TokenId> tokens = RandomTokens();
  const Trace cold = Run(*runner, tokens, {kTokens}, 0);
  tokens[0] = (tokens[0] + 1) % kVocabulary;
  EXPECT_FALSE(Run(*runner, tokens, {kTokens}, 0) == cold);
}

TEST_P(ExactnessTest, StartUpProbePasses) {
  EXPECT_TRUE(ProbeExactness(*MakeRunner(kThreads, *kernels_)).ok());
}

// The mutation checks: kernels whose order of reduction depends on how many rows there
// are must be caught by what the clean ones pass. In fp32, since rounding to fewer bits
// hides most differences of the last one.
using PlantedKernelTest = ExactnessTest;

TEST_P(PlantedKernelTest, SplitReductionForSeveralRowsIsCaught) {
  const Kernels planted = PlantSplitReduction(*kernels_);
  EXPECT_NE(FirstDifference(planted), std::nullopt);
  EXPECT_TRUE(absl::IsDataLoss(ProbeExactness(*MakeRunner(kThreads, planted))));
}

TEST_P(PlantedKernelTest, AttentionThatRoundsWithTheNumberOfRowsIsCaught) {
  const Kernels planted = PlantBatchDependentAttention(*kernels_);
  EXPECT_NE(FirstDifference(planted), std::nullopt);
  EXPECT_TRUE(absl::IsDataLoss(ProbeExactness(*MakeRunner(kThreads, planted))));
}

std::string CaseName(const ::testing::TestParamInfo<Case>& info) {
  return std::string(info.param.format.name) + "_" + info.param.instruction_set;
}

INSTANTIATE_TEST_SUITE_P(All, ExactnessTest, ::testing::ValuesIn(AllCases(kFormats)), CaseName);
INSTANTIATE_TEST_SUITE_P(Fp32, PlantedKernelTest,
                         ::testing::ValuesIn(AllCases(absl::MakeConstSpan(kFormats, 1))), CaseName);

}  // namespace
}  // namespace reprise
