// KV and logits compared bit for bit with a cold single pass.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/model/cpu_runner.h"
#include "core/model/kernels.h"
#include "tests/unit/model/random_model.h"

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

std::vector<Case> AllCases() {
  constexpr Format kFormats[] = {
      {"Fp32", WeightChoice::kFp32, StorageType::kF32, Dtype::kFloat32, Architecture::kGpt2},
      {"Bf16", WeightChoice::kBf16, StorageType::kF32, Dtype::kBfloat16, Architecture::kLlama},
      {"Fp16", WeightChoice::kFp16, StorageType::kF32, Dtype::kFloat16, Architecture::kLlama},
      {"Int8", WeightChoice::kInt8, StorageType::kF32, Dtype::kBfloat16, Architecture::kGpt2},
      {"Q8_0", WeightChoice::kAsStored, StorageType::kQ8_0, Dtype::kBfloat16, Architecture::kLlama},
      {"Q4_0", WeightChoice::kAsStored, StorageType::kQ4_0, Dtype::kFloat32, Architecture::kGpt2},
      {"Q4_1", WeightChoice::kAsStored, StorageType::kQ4_1, Dtype::kBfloat16, Architecture::kLlama},
      {"Q4_K", WeightChoice::kAsStored, StorageType::kQ4_K, Dtype::kFloat16, Architecture::kLlama}};
  std::vector<Case> cases;
  for (const char* instruction_set : {"avx512bf16", "avx512", "avx2", "portable"}) {
    for (const Format& format : kFormats) cases.push_back({format, instruction_set});
  }
  return cases;
}

class ExactnessTest : public ::testing::TestWithParam<Case> {
 protected:
  static constexpr int kTokens = 150;
  static constexpr int kBlocks = (kTokens + kBlockTokens - 1) / kBlockTokens;

  std::unique_ptr<ModelRunner> MakeRunner(int threads) {
    CpuRunnerOptions options;
    options.num_threads = threads;
    options.weights = GetParam().format.choice;
    options.kv_dtype = GetParam().format.kv_dtype;
    options.instruction_set = GetParam().instruction_set;
    options.kv_pool_bytes = int64_t{32} << 20;
    const Format& format = GetParam().format;
    auto runner =
        CreateCpuRunner(RandomModelBuilder(format.architecture, format.storage).Build(), options);
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
};

TEST_P(ExactnessTest, SplitsMatesAndThreadsChangeNoBit) {
  if (SelectKernels(GetParam().instruction_set) == nullptr) GTEST_SKIP() << "not on this CPU";
  std::mt19937 random(3);
  std::vector<TokenId> tokens(kTokens);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 331);
  const auto cold_runner = MakeRunner(1);
  const Trace cold = Run(*cold_runner, tokens, {kTokens}, 0);
  ASSERT_EQ(cold.logits.size(), 331u);
  const auto runner = MakeRunner(2);
  // Scalar code is slow, under sanitizers above all.
  const int trials = std::string(GetParam().instruction_set) == "portable" ? 2 : 12;
  for (int trial = 0; trial < trials; ++trial) {
    std::vector<int> ends = {kTokens};
    for (uint32_t cut = random() % 6; cut > 0; --cut) {
      ends.push_back(1 + static_cast<int>(random() % (kTokens - 1)));
    }
    std::sort(ends.begin(), ends.end());
    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
    const int mates = static_cast<int>(random() % 4);
    EXPECT_TRUE(Run(*runner, tokens, ends, mates) == cold) << "trial " << trial;
  }
  // The comparison sees a difference where there is one.
  tokens[0] = (tokens[0] + 1) % 331;
  EXPECT_FALSE(Run(*runner, tokens, {kTokens}, 0) == cold);
}

TEST_P(ExactnessTest, StartUpProbePasses) {
  if (SelectKernels(GetParam().instruction_set) == nullptr) GTEST_SKIP() << "not on this CPU";
  EXPECT_TRUE(ProbeExactness(*MakeRunner(2)).ok());
}

INSTANTIATE_TEST_SUITE_P(All, ExactnessTest, ::testing::ValuesIn(AllCases()), [](const auto& info) {
  return std::string(info.param.format.name) + "_" + info.param.instruction_set;
});

}  // namespace
}  // namespace reprise
