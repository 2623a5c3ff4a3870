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

struct Case {
  const char* name;
  Architecture architecture;
  Dtype dtype;
  const char* instruction_set;
  int threads;
};

class ExactnessTest : public ::testing::TestWithParam<Case> {
 protected:
  static constexpr int kTokens = 150;
  static constexpr int kBlocks = (kTokens + kBlockTokens - 1) / kBlockTokens;

  std::unique_ptr<ModelRunner> MakeRunner(int threads) {
    CpuRunnerOptions options;
    options.num_threads = threads;
    options.weight_dtype = options.kv_dtype = GetParam().dtype;
    options.instruction_set = GetParam().instruction_set;
    options.kv_pool_bytes = int64_t{32} << 20;
    auto runner = CreateCpuRunner(RandomModelBuilder(GetParam().architecture).Build(), options);
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
  const auto runner = MakeRunner(GetParam().threads);
  // Scalar code is slow, under sanitizers above all.
  const int trials = std::string(GetParam().instruction_set) == "portable" ? 3 : 20;
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
  EXPECT_TRUE(ProbeExactness(*MakeRunner(GetParam().threads)).ok());
}

INSTANTIATE_TEST_SUITE_P(
    All, ExactnessTest,
    ::testing::Values(
        Case{"Llama_bf16_avx512_2", Architecture::kLlama, Dtype::kBfloat16, "avx512", 2},
        Case{"Gpt2_fp32_avx512_2", Architecture::kGpt2, Dtype::kFloat32, "avx512", 2},
        Case{"Gpt2_bf16_avx2_1", Architecture::kGpt2, Dtype::kBfloat16, "avx2", 1},
        Case{"Llama_fp32_avx2_2", Architecture::kLlama, Dtype::kFloat32, "avx2", 2},
        Case{"Llama_bf16_portable_2", Architecture::kLlama, Dtype::kBfloat16, "portable", 2}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace reprise
