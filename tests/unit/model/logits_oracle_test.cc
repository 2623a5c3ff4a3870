// Logits of small models against those of Hugging Face transformers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <numeric>

#include "core/model/cpu_runner.h"
#include "core/model/load_model.h"
#include "tests/golden/golden_file.h"

namespace reprise {
namespace {

using ::testing::Each;
using ::testing::Le;

class LogitsOracleTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::string Folder() const { return std::string("model/") + GetParam(); }

  std::unique_ptr<ModelRunner> MakeRunner(Dtype dtype) {
    const std::string gguf = GoldenPath(Folder() + "/model.gguf");
    auto model = LoadModel(std::filesystem::exists(gguf) ? gguf : GoldenPath(Folder()));
    EXPECT_TRUE(model.ok()) << model.status();
    CpuRunnerOptions options;
    options.num_threads = 2;
    options.weights = dtype == Dtype::kFloat32 ? WeightChoice::kFp32 : WeightChoice::kBf16;
    options.kv_dtype = dtype;
    options.kv_pool_bytes = int64_t{4} << 20;
    auto runner = CreateCpuRunner(*model, options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    return *std::move(runner);
  }

  // Largest difference at each position, the ids fed one at a time.
  std::vector<double> Differences(ModelRunner& runner) {
    const auto ids = ReadGolden<TokenId>(Folder() + "/ids.bin");
    const auto expected = ReadGolden<float>(Folder() + "/logits.bin");
    const size_t vocabulary = runner.vocabulary_size();
    EXPECT_EQ(expected.size(), ids.size() * vocabulary);
    std::vector<BlockId> table(ids.size() / kBlockTokens + 1);
    std::iota(table.begin(), table.end(), 0);
    std::vector<double> differences;
    for (size_t at = 0; at < ids.size(); ++at) {
      StepSequence s;
      s.tokens = absl::MakeConstSpan(ids).subspan(at, 1);
      s.start_position = static_cast<int32_t>(at);
      s.block_table = table;
      s.want_logits = true;
      const auto result = runner.Step({{s}});
      EXPECT_TRUE(result.ok()) << result.status();
      double difference = 0;
      for (size_t i = 0; i < vocabulary; ++i) {
        difference = std::max<double>(
            difference, std::fabs(result->logits[0][i] - expected[at * vocabulary + i]));
      }
      differences.push_back(difference);
    }
    return differences;
  }
};

TEST_P(LogitsOracleTest, Fp32AgreesTo1e4) {
  const auto differences = Differences(*MakeRunner(Dtype::kFloat32));
  EXPECT_THAT(differences, Each(Le(1e-4)));
  std::printf("oracle logits model=%s positions=%zu max_abs_diff=%.2e\n", GetParam(),
              differences.size(), *std::max_element(differences.begin(), differences.end()));
}

// The bound is loose because bf16 keeps 8 bits; a wrong formula is off by far more.
TEST_P(LogitsOracleTest, Bf16IsNear) {
  EXPECT_THAT(Differences(*MakeRunner(Dtype::kBfloat16)), Each(Le(0.25)));
}

INSTANTIATE_TEST_SUITE_P(All, LogitsOracleTest,
                         ::testing::Values("gpt2", "gpt2_sharded", "llama", "llama_untied",
                                           "llama_multi_head", "llama_theta", "llama_linear",
                                           "llama_dynamic", "llama_yarn", "llama_llama3", "gpt_neo",
                                           "qwen2", "qwen2_window", "qwen2_gguf", "gemma3",
                                           "gemma3_gguf"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace reprise
