// What each architecture reads from its files, and what it refuses. The logits
// themselves are logits_oracle_test's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/mapped_file.h"
#include "core/base/safetensors.h"
#include "core/model/cpu_runner.h"
#include "core/model/load_model.h"
#include "core/model/rope.h"
#include "tests/fakes/model_files.h"
#include "tests/fakes/random_model.h"
#include "tests/golden/golden_file.h"

namespace reprise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class ArchitecturesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = ::testing::TempDir() + "/architectures_" + info->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
    return folder_ + "/" + name;
  }

  // The golden model with the first text of config.json in the place of the second.
  absl::StatusOr<LoadedModel> LoadChanged(const std::string& golden, const std::string& from,
                                          const std::string& to) {
    std::filesystem::copy_file(GoldenPath("model/" + golden + "/model.safetensors"),
                               folder_ + "/model.safetensors",
                               std::filesystem::copy_options::overwrite_existing);
    const std::string config = ReadGoldenText("model/" + golden + "/config.json");
    EXPECT_THAT(config, HasSubstr(from));
    Write("config.json", absl::StrReplaceAll(config, {{from, to}}));
    return LoadModel(folder_);
  }

  // The golden tensors under other names.
  template <typename Rename>
  std::vector<FileTensor> GoldenTensors(const std::string& golden, const Rename& rename) {
    const auto map = MappedFile::Open(GoldenPath("model/" + golden + "/model.safetensors"));
    const auto tensors = ParseSafetensors((*map)->bytes());
    std::vector<FileTensor> renamed;
    for (const SafetensorsTensor& tensor : *tensors) {
      renamed.push_back({rename(tensor.name), 0, tensor.shape, std::string(AsText(tensor.bytes))});
    }
    return renamed;
  }

  std::string folder_;
};

TEST_F(ArchitecturesTest, GptNeoRepeatsItsKindsOfLayers) {
  const auto model = LoadModel(GoldenPath("model/gpt_neo"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->config.windows, ElementsAre(0, 8));
  EXPECT_EQ(model->config.attention_scale, 1.0);
  const auto swapped = LoadChanged("gpt_neo", "\"attention_types\": [", R"("attention_types": [
      [["local"], 1], [["global"], 1]], "unused": [)");
  ASSERT_TRUE(swapped.ok()) << swapped.status();
  EXPECT_THAT(swapped->config.windows, ElementsAre(8, 0));
}

TEST_F(ArchitecturesTest, Qwen2HasAWindowOnlyWhereItsFileSaysSo) {
  const auto sliding = LoadModel(GoldenPath("model/qwen2_window"));
  ASSERT_TRUE(sliding.ok()) << sliding.status();
  EXPECT_THAT(sliding->config.windows, ElementsAre(0, 8));
  const auto whole =
      LoadChanged("qwen2_window", "\"use_sliding_window\": true", "\"use_sliding_window\": false");
  EXPECT_THAT(whole->config.windows, SizeIs(0));
  const auto old = LoadChanged("qwen2_window", "layer_types", "unused");
  EXPECT_THAT(old->config.windows, ElementsAre(0, 8)) << "from max_window_layers";
}

TEST_F(ArchitecturesTest, Gemma3ReadsOldAndNewFieldsAlike) {
  const auto model = LoadModel(GoldenPath("model/gemma3"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->config.windows, ElementsAre(8, 0, 8));
  EXPECT_EQ(model->config.attention_scale, 1 / std::sqrt(20.0));
  EXPECT_EQ(model->config.embedding_scale, std::sqrt(48.0));
  EXPECT_EQ(model->config.rope.theta, 1e6);
  EXPECT_EQ(model->config.rope.factor, 8);
  EXPECT_EQ(model->config.local_rope->theta, 1e4);
  const auto pattern = LoadChanged("gemma3", "layer_types", "unused");
  EXPECT_EQ(pattern->config.windows, model->config.windows);
  const auto old = LoadChanged("gemma3", "\"rope_parameters\"",
                               R"("rope_theta": 1e6, "rope_local_base_freq": 1e4,
                                  "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "unused")");
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_EQ(RotaryFrequencies(old->config.rope, 128), RotaryFrequencies(model->config.rope, 128));
  EXPECT_EQ(RotaryFrequencies(*old->config.local_rope, 128),
            RotaryFrequencies(*model->config.local_rope, 128));
}

TEST_F(ArchitecturesTest, AVisionFoldersTextModelIsThatOfATextFolder) {
  const auto text = LoadModel(GoldenPath("model/gemma3"));
  ASSERT_TRUE(text.ok()) << text.status();
  Write("config.json", absl::StrCat(R"({"model_type": "gemma3", "vision_config": {},
        "text_config": )",
                                    ReadGoldenText("model/gemma3/config.json"), "}"));
  // The two spellings that transformers has used.
  for (const char* prefix : {"language_model.model.", "model.language_model."}) {
    auto tensors = GoldenTensors("gemma3", [&](const std::string& name) {
      return absl::StrReplaceAll(name, {{"model.", prefix}});
    });
    tensors.push_back({"model.vision_tower.layers.0.mlp.up_proj.weight", 0, {1}, "1234"});
    Write("model.safetensors", WriteSafetensors(tensors));
    const auto vision = LoadModel(folder_);
    ASSERT_TRUE(vision.ok()) << vision.status();
    EXPECT_EQ(vision->weights_digest, text->weights_digest) << prefix;
  }
}

TEST_F(ArchitecturesTest, FieldsThatTheLayersDoNotComputeAreRefusedByName) {
  struct Case {
    const char* golden;
    const char* from;
    const char* to;
    const char* named;
  };
  const Case kCases[] = {
      {"gpt2", "\"gelu_new\"", "\"relu\"", "activation_function"},
      {"gpt2", "\"scale_attn_by_inverse_layer_idx\": false",
       "\"scale_attn_by_inverse_layer_idx\": true", "scale_attn_by_inverse_layer_idx"},
      {"llama", "\"silu\"", "\"gelu\"", "hidden_act"},
      {"gpt_neo", "\"gelu_new\"", "\"gelu\"", "activation_function"},
      {"gpt_neo", "\"window_size\": 8", "\"window_size\": 0", "window_size"},
      {"gpt_neo", "\"num_layers\": 2", "\"num_layers\": 3", "attention_types is for 2 layers"},
      {"gpt_neo", "\"attention_types\"", "\"attention_types\": [[[\"near\"], 2]], \"unused\"",
       "attention_types[0][0][0] is \"near\""},
      {"gpt_neo", "\"attention_types\"",
       "\"attention_types\": [[[\"local\"], 1099511627776]], \"unused\"", "attention_types[0]"},
      {"gpt_neo", "\"attention_types\"", "\"attention_types\": [7], \"unused\"",
       "attention_types[0]"},
      {"qwen2", "\"silu\"", "\"gelu\"", "hidden_act"},
      {"qwen2_window", "\"sliding_window\": 8", "\"sliding_window\": -8", "sliding_window is -8"},
      {"qwen2_window", "\"sliding_window\": 8", "\"sliding_window\": null", "sliding_window"},
      {"qwen2_window", "\"full_attention\"", "\"chunked_attention\"", "layer_types[0]"},
      {"qwen2_window", "\"full_attention\",", "", "layer_types has 1"},
      {"gemma3", "gelu_pytorch_tanh", "silu", "hidden_activation"},
      {"gemma3", "\"use_bidirectional_attention\": false", "\"use_bidirectional_attention\": true",
       "use_bidirectional_attention"},
      {"gemma3", "\"attn_logit_softcapping\": null", "\"attn_logit_softcapping\": 50.0",
       "attn_logit_softcapping is 50"},
      {"gemma3", "\"final_logit_softcapping\": null", "\"final_logit_softcapping\": 30.0",
       "final_logit_softcapping is 30"},
      {"gemma3", "\"query_pre_attn_scalar\": 20", "\"query_pre_attn_scalar\": 0",
       "query_pre_attn_scalar"},
      {"gemma3", "\"rope_theta\": 10000.0", "\"rope_theta\": -1", "rope theta"},
  };
  for (const Case& c : kCases) {
    const absl::Status status = LoadChanged(c.golden, c.from, c.to).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.to << status;
    EXPECT_THAT(status.message(), HasSubstr(c.named)) << c.golden << " " << c.to;
  }
}

TEST_F(ArchitecturesTest, GgufKeysThatTheLayersDoNotComputeAreRefusedByName) {
  const GgufContents whole =
      ToGguf(RandomModelBuilder(TinyModelConfig(Architecture::kGemma3)).Build());
  EXPECT_TRUE(LoadModel(Write("model.gguf", WriteGguf(whole))).ok());
  const std::pair<const char*, GgufField> kCases[] = {
      {"gemma3.attn_logit_softcapping", 50.0},
      {"gemma3.final_logit_softcapping", 30.0},
      {"gemma3.attention.sliding_window", int64_t{-1}},
      {"gemma3.attention.sliding_window_pattern", int64_t{0}},
      {"gemma3.attention.sliding_window_pattern", std::vector<int64_t>{1, 0}},
      {"gemma3.rope.freq_base_swa", "x"},
  };
  for (const auto& [key, value] : kCases) {
    GgufContents changed = whole;
    changed.metadata[key] = value;
    const absl::Status status = LoadModel(Write("model.gguf", WriteGguf(changed))).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << key << status;
    EXPECT_THAT(status.message(), HasSubstr(key));
  }
}

TEST_F(ArchitecturesTest, TensorsMustBeThoseOfTheArchitecture) {
  struct Case {
    const char* golden;
    const char* tensor;
    const char* renamed;
    const char* named;
  };
  const Case kCases[] = {
      {"gpt_neo", "transformer.h.1.attn.attention.out_proj.bias",
       "transformer.h.1.attn.attention.q_proj.bias", "layers.1.attention.q.bias"},
      {"qwen2", "model.layers.0.self_attn.k_proj.bias", "x", "layers.0.attention.k.bias"},
      {"gemma3", "model.layers.0.self_attn.q_norm.weight", "x", "layers.0.q_norm.weight"},
      {"gemma3", "model.layers.2.post_feedforward_layernorm.weight", "x",
       "layers.2.mlp_post_norm.weight"},
  };
  for (const Case& c : kCases) {
    Write("config.json", ReadGoldenText(absl::StrCat("model/", c.golden, "/config.json")));
    Write("model.safetensors", WriteSafetensors(GoldenTensors(c.golden, [&](std::string name) {
            return name == c.tensor ? std::string(c.renamed) : name;
          })));
    const auto model = LoadModel(folder_);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_THAT(CreateCpuRunner(*model, {}).status().message(), HasSubstr(c.named));
  }
}

// llama.cpp's converter permutes the biases of a Llama's queries and keys like its rows.
TEST_F(ArchitecturesTest, BiasesOfInterleavedGgufRowsAreReorderedWithThem) {
  const LoadedModel model = RandomModelBuilder(TinyModelConfig(Architecture::kLlama)).Build();
  GgufContents contents = ToGguf(model);
  contents.tensors.push_back({"blk.0.attn_k.bias", 0, {8}, FloatBytes({0, 4, 1, 5, 2, 6, 3, 7})});
  const auto loaded = LoadModel(Write("model.gguf", WriteGguf(contents)));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const auto bias = loaded->weights->Find("layers.0.attention.k.bias", {8});
  ASSERT_TRUE(bias.ok()) << bias.status();
  EXPECT_EQ(AsText((*bias)->bytes), FloatBytes({0, 1, 2, 3, 4, 5, 6, 7}));
}

}  // namespace
}  // namespace reprise
