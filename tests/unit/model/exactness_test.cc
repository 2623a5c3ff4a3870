// KV and logits compared bit for bit with a cold single pass.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/model/cpu_runner.h"
#include "core/model/kernels.h"
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
  static constexpr int kVocabulary = 331;
  static constexpr int kBlocks = (kTokens + kBlockTokens - 1) / kBlockTokens;

  void SetUp() override {
    kernels_ = SelectKernels(GetParam().instruction_set);
    if (kernels_ == nullptr) GTEST_SKIP() << "not on this CPU";
  }

  std::unique_ptr<ModelRunner> MakeRunner(int threads, const Kernels& kernels) {
    CpuRunnerOptions options;
    options.num_threads = threads;
    options.weight_dtype = options.kv_dtype = GetParam().dtype;
    options.kv_pool_bytes = int64_t{32} << 20;
    auto runner =
        CreateCpuRunnerWith(kernels, RandomModelBuilder(GetParam().architecture).Build(), options);
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
    const auto runner = MakeRunner(GetParam().threads, kernels);
    // Scalar code is slow, under sanitizers above all.
    const int trials = std::string(GetParam().instruction_set) == "portable" ? 3 : 20;
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

// What the planted kernels are built on; a table of plain functions holds no state.
const Kernels* planted_on = nullptr;

// Split-K when there are several rows: both halves of the reduction, then their sum.
void SplitWhenSeveralRows(const PanelProduct& p) {
  if (p.rows < 2) return planted_on->multiply_panel(p);
  std::vector<float> half(p.rows * p.columns);
  PanelProduct first = p, second = p;
  first.depth = p.depth / 2;
  second.depth = p.depth - first.depth;
  second.x += first.depth;
  second.panel = static_cast<const uint8_t*>(p.panel) +
                 first.depth * planted_on->panel_columns * DtypeBytes(p.dtype);
  second.bias = nullptr;
  second.y = half.data();
  second.y_stride = p.columns;
  second.accumulate = false;
  planted_on->multiply_panel(first);
  planted_on->multiply_panel(second);
  for (size_t r = 0; r < p.rows; ++r) {
    for (size_t c = 0; c < p.columns; ++c) p.y[r * p.y_stride + c] += half[r * p.columns + c];
  }
}

// A last bit of the scale that depends on the number of rows.
void RescaleWhenSeveralRows(const AttentionTile& t) {
  AttentionTile tile = t;
  if (t.rows > 1) tile.scale = std::nextafter(t.scale, 1.0f);
  planted_on->attend(tile);
}

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

// The mutation checks: kernels whose order of reduction depends on how many rows there
// are must be caught by what the clean ones pass.
TEST_P(ExactnessTest, ASplitReductionForSeveralRowsIsCaught) {
  planted_on = kernels_;
  Kernels planted = *kernels_;
  planted.multiply_panel = SplitWhenSeveralRows;
  EXPECT_NE(FirstDifference(planted), std::nullopt);
  EXPECT_TRUE(absl::IsDataLoss(ProbeExactness(*MakeRunner(GetParam().threads, planted))));
}

TEST_P(ExactnessTest, AttentionThatRoundsWithTheNumberOfRowsIsCaught) {
  planted_on = kernels_;
  Kernels planted = *kernels_;
  planted.attend = RescaleWhenSeveralRows;
  EXPECT_NE(FirstDifference(planted), std::nullopt);
  EXPECT_TRUE(absl::IsDataLoss(ProbeExactness(*MakeRunner(GetParam().threads, planted))));
}

TEST_P(ExactnessTest, StartUpProbePasses) {
  EXPECT_TRUE(ProbeExactness(*MakeRunner(GetParam().threads, *kernels_)).ok());
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
