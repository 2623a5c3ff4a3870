#include "core/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>

#include "tests/fakes/random_model.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

using Change = std::function<void(ModelConfig&)>;

Digest DigestOf(const ModelConfig& config) {
  DigestBuilder builder;
  config.AddTo(builder);
  return builder.Finish();
}

TEST(ModelConfigTest, EveryFieldThatDecidesAKvValueChangesTheDigest) {
  const Change kChanges[] = {
      [](ModelConfig&) {},
      [](ModelConfig& c) { c.architecture = Architecture::kLlama; },
      [](ModelConfig& c) { ++c.num_layers; },
      [](ModelConfig& c) { ++c.hidden_size; },
      [](ModelConfig& c) { ++c.num_heads; },
      [](ModelConfig& c) { ++c.num_kv_heads; },
      [](ModelConfig& c) { ++c.head_dim; },
      [](ModelConfig& c) { ++c.intermediate_size; },
      [](ModelConfig& c) { ++c.vocabulary_size; },
      [](ModelConfig& c) { ++c.context_length; },
      [](ModelConfig& c) { c.norm_epsilon = 1e-6; },
      [](ModelConfig& c) { c.tied_embeddings = false; },
      [](ModelConfig& c) { c.embedding_scale = 2; },
      [](ModelConfig& c) { c.attention_scale = 0; },
      [](ModelConfig& c) { c.attention_scale = 0.5; },
      [](ModelConfig& c) { c.windows = {}; },
      [](ModelConfig& c) {
        c.windows = {0, 24};
      },
      [](ModelConfig& c) {
        c.windows = {25, 0};
      },
      [](ModelConfig& c) { c.rope.theta = 1e4; },
      [](ModelConfig& c) { c.rope.scaling = RopeConfig::Scaling::kLinear; },
      [](ModelConfig& c) { c.rope.factor = 8; },
      [](ModelConfig& c) { c.rope.frequency_factors = {1}; },
      [](ModelConfig& c) { c.local_rope.reset(); },
      [](ModelConfig& c) { c.local_rope->theta = 1e6; },
      [](ModelConfig& c) { c.local_rope->factor = 8; },
  };
  std::set<Digest> digests;
  for (const Change& change : kChanges) {
    ModelConfig config = SmallModelConfig(Architecture::kGemma3);
    change(config);
    digests.insert(DigestOf(config));
  }
  EXPECT_EQ(digests.size(), std::size(kChanges));
}

TEST(ModelConfigTest, ValuesOutOfRangeAreRefusedByName) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  struct Case {
    const char* named;
    Change change;
  };
  const Case kCases[] = {
      {"num_layers", [](ModelConfig& c) { c.num_layers = 0; }},
      {"num_kv_heads", [](ModelConfig& c) { c.num_kv_heads = 4; }},
      {"embedding_scale", [](ModelConfig& c) { c.embedding_scale = 0; }},
      {"embedding_scale", [](ModelConfig& c) { c.embedding_scale = kNan; }},
      {"attention_scale", [](ModelConfig& c) { c.attention_scale = -1; }},
      {"attention_scale", [](ModelConfig& c) { c.attention_scale = kNan; }},
      {"number of attention windows", [](ModelConfig& c) { c.windows = {24}; }},
      {"attention window is -1",
       [](ModelConfig& c) {
         c.windows = {24, -1};
       }},
      {"rope dimensions", [](ModelConfig& c) { c.rope.dimensions = 7; }},
      {"rope dimensions", [](ModelConfig& c) { c.local_rope->dimensions = 66; }},
      {"rope theta", [](ModelConfig& c) { c.local_rope->theta = -1; }},
  };
  EXPECT_TRUE(SmallModelConfig(Architecture::kGemma3).Validate().ok());
  for (const Case& c : kCases) {
    ModelConfig config = SmallModelConfig(Architecture::kGemma3);
    c.change(config);
    const absl::Status status = config.Validate();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.named << status;
    EXPECT_THAT(status.message(), HasSubstr(c.named));
  }
}

TEST(ModelConfigTest, EachArchitectureHasItsOwnDefinition) {
  std::set<std::string> names;
  for (const Architecture architecture :
       {Architecture::kGpt2, Architecture::kLlama, Architecture::kGptNeo, Architecture::kQwen2,
        Architecture::kGemma3}) {
    names.insert(ArchitectureName(architecture));
  }
  EXPECT_EQ(names, (std::set<std::string>{"gpt2", "llama", "gpt_neo", "qwen2", "gemma3"}));
}

}  // namespace
}  // namespace reprise
