// Model files whole, broken and hostile.
#include "core/model/load_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <numeric>

#include "core/model/cpu_runner.h"
#include "tests/fakes/model_files.h"
#include "tests/fakes/random_model.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kHuge = int64_t{1} << 40;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

LoadedModel Tiny(Architecture architecture) {
  return RandomModelBuilder(TinyModelConfig(architecture)).Build();
}

absl::StatusOr<std::unique_ptr<ModelRunner>> Build(const LoadedModel& model) {
  CpuRunnerOptions options;
  options.num_threads = 1;
  options.weights = WeightChoice::kFp32;
  options.kv_dtype = Dtype::kFloat32;
  options.kv_pool_bytes = 1 << 20;
  return CreateCpuRunner(model, options);
}

// What loading and building say, and a model that is loaded says no more.
absl::Status LoadAndBuild(const std::string& path) {
  const auto model = LoadModel(path);
  return model.ok() ? Build(*model).status() : model.status();
}

std::vector<float> Logits(const LoadedModel& model) {
  const auto runner = Build(model);
  EXPECT_TRUE(runner.ok()) << runner.status();
  std::vector<TokenId> tokens(20);
  std::iota(tokens.begin(), tokens.end(), 3);
  const std::vector<BlockId> table = {1, 0};
  StepSequence s;
  s.tokens = tokens;
  s.block_table = table;
  s.want_logits = true;
  auto result = (*runner)->Step({{s}});
  EXPECT_TRUE(result.ok()) << result.status();
  return result->logits[0];
}

class LoadModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = ::testing::TempDir() + "/load_model_" + info->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
    return folder_ + "/" + name;
  }
  std::string WriteGgufFile(const GgufContents& contents) {
    return Write("model.gguf", WriteGguf(contents));
  }
  const std::string& WriteFolder(const HuggingFaceContents& contents) {
    Write("config.json", WriteJson(contents.config));
    Write("model.safetensors", WriteSafetensors(contents.tensors));
    return folder_;
  }
  // Two shards, the first tensor alone in the first one, with `index` for the index.
  const std::string& WriteShards(const HuggingFaceContents& contents, const std::string& index) {
    const auto& all = contents.tensors;
    Write("config.json", WriteJson(contents.config));
    Write("a.safetensors", WriteSafetensors({all[0]}));
    Write("b.safetensors", WriteSafetensors({all.begin() + 1, all.end()}));
    Write("model.safetensors.index.json", index);
    return folder_;
  }

  std::string folder_;
};

TEST_F(LoadModelTest, GgufAndSafetensorsGiveTheLogitsOfTheirWeights) {
  for (const Architecture architecture : {Architecture::kLlama, Architecture::kGpt2}) {
    const LoadedModel model = Tiny(architecture);
    const std::vector<float> expected = Logits(model);
    for (const std::string& path :
         {WriteGgufFile(ToGguf(model)), WriteFolder(ToHuggingFace(model))}) {
      const auto loaded = LoadModel(path);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(Logits(*loaded), expected) << path;
      EXPECT_EQ(loaded->weights->ContentDigest(), model.weights->ContentDigest()) << path;
    }
  }
}

TEST_F(LoadModelTest, RopeFactorsOfAGgufFileReplaceTheScalingOfAFolder) {
  const LoadedModel model = Tiny(Architecture::kLlama);
  HuggingFaceContents scaled = ToHuggingFace(model);
  scaled.config["rope_scaling"] = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 32})";
  const auto folder = LoadModel(WriteFolder(scaled));
  ASSERT_TRUE(folder.ok()) << folder.status();
  GgufContents gguf = ToGguf(model);
  // 8 dimensions of base 10000: wavelengths of 6.3, 63, 628 and 6283. Below 32 / 4 one
  // stays as it is, above 32 / 1 it grows eightfold.
  gguf.tensors.push_back({"rope_freqs.weight", 0, {4}, FloatBytes({1, 8, 8, 8})});
  const auto file = LoadModel(WriteGgufFile(gguf));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(Logits(*file), Logits(*folder));
  EXPECT_NE(Logits(*file), Logits(model));

  DigestBuilder with, without;
  file->config.AddTo(with);
  model.config.AddTo(without);
  EXPECT_NE(with.Finish(), without.Finish());
}

struct BrokenGguf {
  const char* problem;
  std::function<void(GgufContents&)> damage;
  const char* named;  // part of the error
};

void ExpectRefused(const absl::Status& status, const char* problem, const char* named) {
  EXPECT_TRUE(absl::IsInvalidArgument(status) || absl::IsNotFound(status)) << problem << status;
  EXPECT_THAT(status.message(), HasSubstr(named)) << problem;
}

std::function<void(GgufContents&)> Set(const char* key, GgufField value) {
  return [=](GgufContents& c) { c.metadata[key] = value; };
}

std::function<void(GgufContents&)> AddFactors(std::vector<float> factors, uint32_t type = 0) {
  return [=](GgufContents& c) {
    c.tensors.push_back(
        {"rope_freqs.weight", type, {int64_t(factors.size())}, FloatBytes(factors)});
  };
}

TEST_F(LoadModelTest, ABrokenLlamaGgufIsRefusedByName) {
  const GgufContents whole = ToGguf(Tiny(Architecture::kLlama));
  const BrokenGguf kCases[] = {
      {"no architecture", [](auto& c) { c.metadata.erase("general.architecture"); },
       "general.architecture"},
      {"unknown architecture", Set("general.architecture", "mamba"), "general.architecture"},
      {"no layers", Set("llama.block_count", int64_t{0}), "llama.block_count"},
      {"layers missing", [](auto& c) { c.metadata.erase("llama.block_count"); },
       "llama.block_count"},
      {"negative width", Set("llama.embedding_length", int64_t{-16}), "llama.embedding_length"},
      {"width of 2^40", Set("llama.embedding_length", kHuge), "llama.embedding_length"},
      {"width of text", Set("llama.embedding_length", "16"), "llama.embedding_length"},
      {"heads that KV heads do not divide", Set("llama.attention.head_count_kv", int64_t{3}),
       "num_kv_heads"},
      {"another head_dim", Set("llama.attention.key_length", int64_t{12}), "blk.0.attn_"},
      {"head_dim past the limit", Set("llama.attention.key_length", int64_t{4096}), "head_dim"},
      {"context of 2^40", Set("llama.context_length", kHuge), "llama.context_length"},
      {"odd RoPE width", Set("llama.rope.dimension_count", int64_t{7}), "rope dimensions"},
      {"RoPE width that wraps to 8", Set("llama.rope.dimension_count", (kHuge << 10) + 8),
       "llama.rope.dimension_count"},
      {"RoPE base NaN", Set("llama.rope.freq_base", double{kNan}), "rope theta"},
      {"epsilon NaN", Set("llama.attention.layer_norm_rms_epsilon", double{kNan}), "norm_epsilon"},
      {"epsilon 0", Set("llama.attention.layer_norm_rms_epsilon", 0.0), "norm_epsilon"},
      {"unknown scaling", Set("llama.rope.scaling.type", "longrope"), "llama.rope.scaling.type"},
      {"YaRN with no context", Set("llama.rope.scaling.type", "yarn"), "rope original context"},
      {"no embedding", [](auto& c) { c.Tensor("token_embd.weight").name = "x"; },
       "token_embd.weight"},
      {"no up", [](auto& c) { c.Tensor("blk.0.ffn_up.weight").name = "x"; },
       "layers.0.mlp.up.weight is missing"},
      {"up transposed",
       [](auto& c) {
         c.Tensor("blk.0.ffn_up.weight").shape = {16, 24};
       },
       "layers.0.mlp.up.weight has shape"},
      {"up of unknown type", [](auto& c) { c.Tensor("blk.0.ffn_up.weight").type = 99; },
       "blk.0.ffn_up.weight"},
      {"up quantised, rows of no whole block",
       [](auto& c) { c.Tensor("blk.0.ffn_up.weight").type = 8; }, "blk.0.ffn_up.weight"},
      {"up of 2^60 rows", [](auto& c) { c.Tensor("blk.0.ffn_up.weight").shape[0] = kHuge << 20; },
       "blk.0.ffn_up.weight"},
      {"up of no rows", [](auto& c) { c.Tensor("blk.0.ffn_up.weight").shape[0] = 0; },
       "blk.0.ffn_up.weight"},
      {"up twice", [](auto& c) { c.tensors.push_back(c.Tensor("blk.0.ffn_up.weight")); },
       "blk.0.ffn_up.weight"},
      {"up twice, spelt otherwise",
       [](auto& c) {
         c.tensors.push_back(c.Tensor("blk.0.ffn_up.weight"));
         c.tensors.back().name = "blk.00.ffn_up.weight";
       },
       "layers.0.mlp.up.weight appears twice"},
      {"too few factors", AddFactors({1, 1, 1}), "rope_freqs.weight"},
      {"factor 0", AddFactors({1, 0, 1, 1}), "rope_freqs.weight"},
      {"factor negative", AddFactors({1, 1, -1, 1}), "rope_freqs.weight"},
      {"factor NaN", AddFactors({1, 1, 1, kNan}), "rope_freqs.weight"},
      {"factor infinite", AddFactors({INFINITY, 1, 1, 1}), "rope_freqs.weight"},
      {"factors of F16", AddFactors({1, 1, 1, 1}, 1), "rope_freqs.weight"},
  };
  for (const BrokenGguf& broken : kCases) {
    GgufContents contents = whole;
    broken.damage(contents);
    ExpectRefused(LoadAndBuild(WriteGgufFile(contents)), broken.problem, broken.named);
  }
}

TEST_F(LoadModelTest, ABrokenGpt2GgufIsRefusedByName) {
  const GgufContents whole = ToGguf(Tiny(Architecture::kGpt2));
  const BrokenGguf kCases[] = {
      {"no positions", [](auto& c) { c.Tensor("position_embd.weight").name = "x"; },
       "position_embedding"},
      {"fewer positions than the context", Set("gpt2.context_length", int64_t{65}),
       "position_embedding"},
      {"no bias", [](auto& c) { c.Tensor("blk.0.ffn_up.bias").name = "x"; },
       "layers.0.mlp.up.bias"},
      {"fused rows that are no three parts",
       [](auto& c) {
         c.Tensor("blk.0.attn_qkv.weight").shape[0] = 47;
         c.Tensor("blk.0.attn_qkv.weight").bytes.resize(47 * 16 * 4);
       },
       "layers.0.attention.qkv.weight"},
      {"heads that do not divide the width", Set("gpt2.attention.head_count", int64_t{3}),
       "layers.0.attention"},
  };
  for (const BrokenGguf& broken : kCases) {
    GgufContents contents = whole;
    broken.damage(contents);
    ExpectRefused(LoadAndBuild(WriteGgufFile(contents)), broken.problem, broken.named);
  }
}

TEST_F(LoadModelTest, AFileCutAnywhereIsRefused) {
  for (const Architecture architecture : {Architecture::kLlama, Architecture::kGpt2}) {
    const LoadedModel model = Tiny(architecture);
    const std::string gguf = WriteGguf(ToGguf(model));
    WriteFolder(ToHuggingFace(model));
    const std::string safetensors = WriteSafetensors(ToHuggingFace(model).tensors);
    // Cuts in the tables and in the data; GGUF may lose the padding at its end.
    for (size_t keep = 0; keep + 32 < gguf.size(); keep += 1 + keep / 4) {
      EXPECT_FALSE(LoadAndBuild(Write("cut.gguf", gguf.substr(0, keep))).ok()) << keep;
    }
    for (size_t keep = 0; keep < safetensors.size(); keep += 1 + keep / 4) {
      Write("model.safetensors", safetensors.substr(0, keep));
      EXPECT_FALSE(LoadAndBuild(folder_).ok()) << keep;
    }
  }
}

TEST_F(LoadModelTest, AbsurdConfigurationsAreRefusedByName) {
  const HuggingFaceContents whole = ToHuggingFace(Tiny(Architecture::kLlama));
  struct Case {
    const char* key;
    const char* value;
    const char* named;
  };
  const Case kCases[] = {
      {"model_type", "\"mamba\"", "model_type"},
      {"hidden_size", "0", "hidden_size"},
      {"hidden_size", "-16", "hidden_size"},
      {"hidden_size", "18446744073709551616", "hidden_size"},
      {"hidden_size", "16.5", "hidden_size"},
      {"hidden_size", "\"16\"", "hidden_size"},
      {"hidden_size", "[16]", "hidden_size"},
      {"hidden_size", "null", "hidden_size"},
      {"num_hidden_layers", "4294967297", "num_hidden_layers"},
      {"num_hidden_layers", "2", "layers.1.attention_norm.weight"},
      {"num_attention_heads", "0", "num_attention_heads"},
      {"num_attention_heads", "32", "head_dim"},
      {"num_key_value_heads", "3", "num_kv_heads"},
      {"head_dim", "4", "layers.0.attention.q.weight"},
      {"head_dim", "7", "rope dimensions"},
      {"head_dim", "16777217", "head_dim"},
      {"intermediate_size", "16777216", "intermediate_size"},
      {"vocab_size", "41", "token_embedding"},
      {"vocab_size", "9223372036854775807", "vocab_size"},
      {"max_position_embeddings", "-1", "max_position_embeddings"},
      {"rms_norm_eps", "0", "norm_epsilon"},
      {"rms_norm_eps", "NaN", "config.json"},
      {"rms_norm_eps", "1e999", "config.json"},
      {"rope_theta", "-1.0", "rope theta"},
      {"rope_scaling", R"({"rope_type": "su"})", "rope type"},
      {"rope_scaling", R"({"rope_type": "linear", "factor": 0})", "rope factor"},
      {"rope_scaling", R"({"rope_type": "yarn", "beta_fast": -1})", "beta_fast"},
      {"rope_scaling",
       R"({"rope_type": "yarn", "rope_theta": 1, "original_max_position_embeddings": 1024})",
       "frequency"},
      {"rope_scaling", R"({"rope_type": "yarn", "attention_factor": 1e300})", "attention factor"},
      {"rope_scaling", R"({"rope_type": "llama3", "low_freq_factor": 4})", "low_freq_factor"},
      {"rope_scaling",
       R"({"rope_type": "llama3", "original_max_position_embeddings": 1099511627776})",
       "original_max_position_embeddings"},
  };
  for (const Case& c : kCases) {
    HuggingFaceContents contents = whole;
    contents.config[c.key] = c.value;
    ExpectRefused(LoadAndBuild(WriteFolder(contents)), c.value, c.named);
  }
}

TEST_F(LoadModelTest, ALongContextCostsNoMemoryBeforeItIsUsed) {
  HuggingFaceContents contents = ToHuggingFace(Tiny(Architecture::kLlama));
  contents.config["max_position_embeddings"] = "16777216";
  contents.config["head_dim"] = "1024";
  contents.config["num_attention_heads"] = contents.config["num_key_value_heads"] = "1";
  // Cosines of the whole context would take 64 GiB; a missing tensor is found instead.
  contents.Tensor("model.norm.weight").name = "x";
  ExpectRefused(LoadAndBuild(WriteFolder(contents)), "long context", "attention.q.weight");
}

TEST_F(LoadModelTest, ShardsGiveTheSameModelAsOneFile) {
  const LoadedModel model = Tiny(Architecture::kGpt2);
  const auto loaded = LoadModel(WriteShards(
      ToHuggingFace(model), R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(Logits(*loaded), Logits(model));
}

TEST_F(LoadModelTest, BrokenShardIndexesAreRefusedByName) {
  const HuggingFaceContents contents = ToHuggingFace(Tiny(Architecture::kGpt2));
  struct Case {
    const char* index;
    const char* named;
  };
  const Case kCases[] = {
      {R"({"weight_map": {"x": "a.safetensors"}})", "position_embedding is missing"},
      {R"({"weight_map": {"x": "a.safetensors", "y": "c.safetensors"}})", "c.safetensors"},
      {R"({"weight_map": {"x": "a.safetensors", "y": "../b.safetensors"}})", "weight_map.y"},
      {R"({"weight_map": {"x": "/etc/passwd"}})", "weight_map.x"},
      {R"({"weight_map": {"x": ".."}})", ".."},
      {R"({"weight_map": {"x": ""}})", "weight_map.x"},
      {R"({"weight_map": {"x": 7}})", "weight_map.x"},
      {R"({"weight_map": ["a.safetensors"]})", "weight_map"},
      {R"({"weights": {}})", "weight_map"},
      {R"({"weight_map": {}})", "token_embedding is missing"},
      {R"({"weight_map": )", "model.safetensors.index.json"},
  };
  for (const Case& c : kCases) {
    ExpectRefused(LoadAndBuild(WriteShards(contents, c.index)), c.index, c.named);
  }
}

TEST_F(LoadModelTest, ATensorInTwoShardsIsRefused) {
  const HuggingFaceContents contents = ToHuggingFace(Tiny(Architecture::kGpt2));
  WriteShards(contents, R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})");
  Write("b.safetensors", WriteSafetensors(contents.tensors));
  ExpectRefused(LoadAndBuild(folder_), "twice", "token_embedding appears twice");
}

TEST_F(LoadModelTest, PathsThatAreNoModelAreRefusedByName) {
  ExpectRefused(LoadAndBuild(folder_ + "/none.gguf"), "no file", "none.gguf");
  ExpectRefused(LoadAndBuild(folder_), "empty folder", "config.json");
  ExpectRefused(LoadAndBuild(Write("empty.gguf", "")), "empty file", "empty.gguf");
  ExpectRefused(LoadAndBuild(Write("text.gguf", "not a model")), "text", "text.gguf");
  Write("config.json", WriteJson(ToHuggingFace(Tiny(Architecture::kLlama)).config));
  ExpectRefused(LoadAndBuild(folder_), "no weights", "model.safetensors");
}

}  // namespace
}  // namespace reprise
