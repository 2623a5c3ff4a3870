// Layers that see a window of keys, on every instruction set and KV dtype.
#include <gtest/gtest.h>

#include <numeric>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/model/cpu_runner.h"
#include "core/model/kernels.h"
#include "tests/fakes/random_model.h"

namespace reprise {
namespace {

constexpr int32_t kTokens = 130;
constexpr int32_t kBlocks = (kTokens + kBlockTokens - 1) / kBlockTokens;

using Case = std::tuple<const char*, Dtype, Architecture, int32_t>;

// One layer with a window, so that nothing beyond it can reach a query.
class LocalAttentionTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const auto& [instruction_set, kv_dtype, architecture, window] = GetParam();
    if (SelectKernels(instruction_set) == nullptr) GTEST_SKIP() << "not on this CPU";
    ModelConfig config = SmallModelConfig(architecture);
    config.num_layers = 1;
    SetLocalLayers(window, config);
    config.windows = {window};
    config.attention_scale = 0.01;  // so that every key that is seen has some weight
    CpuRunnerOptions options;
    options.num_threads = 2;
    options.kv_dtype = kv_dtype;
    options.kv_pool_bytes = int64_t{8} << 20;
    options.instruction_set = instruction_set;
    auto runner = CreateCpuRunner(RandomModelBuilder(config).Build(), options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
    tokens_.resize(kTokens);
    std::iota(tokens_.begin(), tokens_.end(), 1);
    std::iota(table_, table_ + kBlocks, 0);
  }

  // Logits of the last of the tokens [first, end).
  std::vector<float> Run(int32_t first, int32_t end) {
    StepSequence s;
    s.tokens = absl::MakeConstSpan(tokens_).subspan(first, end - first);
    s.start_position = first;
    s.block_table = table_;
    s.want_logits = true;
    auto result = runner_->Step({{s}});
    EXPECT_TRUE(result.ok()) << result.status();
    return result->logits[0];
  }

  std::vector<float> RunWithChanged(int32_t position) {
    const TokenId token = std::exchange(tokens_[position], 300);
    std::vector<float> logits = Run(0, kTokens);
    tokens_[position] = token;
    return logits;
  }

  int32_t window() const { return std::get<int32_t>(GetParam()); }

  std::unique_ptr<ModelRunner> runner_;
  std::vector<TokenId> tokens_;
  BlockId table_[kBlocks];
};

TEST_P(LocalAttentionTest, AQuerySeesExactlyItsWindow) {
  const std::vector<float> logits = Run(0, kTokens);
  const int32_t oldest = kTokens - window();
  EXPECT_EQ(RunWithChanged(oldest - 1), logits);
  EXPECT_NE(RunWithChanged(oldest), logits);
}

// Keys outside the window get no weight, and not even the weight zero, which would make
// NaN of what they hold.
TEST_P(LocalAttentionTest, BlocksOutsideTheWindowAreNotRead) {
  constexpr int32_t kRest[] = {1, 5, 60};  // rows of the last pass: one, a few, several tiles
  const std::vector<float> logits = Run(0, kTokens);
  for (const int32_t rest : kRest) {
    Run(0, kTokens - rest);
    const int32_t first_seen = kTokens - rest + 1 - window();
    const std::vector<uint8_t> nan(runner_->block_bytes(), 0xFF);
    for (BlockId block = 0; (block + 1) * kBlockTokens <= first_seen; ++block) {
      ASSERT_TRUE(runner_->WriteBlock(block, nan).ok());
    }
    EXPECT_EQ(Run(kTokens - rest, kTokens), logits) << rest;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, LocalAttentionTest,
    ::testing::Combine(::testing::Values("avx512bf16", "avx512", "avx2", "portable"),
                       ::testing::Values(Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16),
                       ::testing::Values(Architecture::kGptNeo, Architecture::kGemma3),
                       ::testing::Values(1, 24, 50)),
    [](const auto& info) {
      return absl::StrCat(std::get<0>(info.param), "_", DtypeName(std::get<1>(info.param)), "_",
                          ArchitectureName(std::get<2>(info.param)), "_", std::get<3>(info.param));
    });

}  // namespace
}  // namespace reprise
