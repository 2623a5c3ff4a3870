#include <algorithm>
#include <cstring>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/json.h"
#include "core/base/safetensors.h"
#include "core/base/status_macros.h"
#include "core/model/load_sources.h"

namespace reprise {
namespace {

struct Rename {
  const char* from;
  const char* to;
};

constexpr Rename kLlamaLayer[] = {
    {"input_layernorm", "attention_norm"}, {"post_attention_layernorm", "mlp_norm"},
    {"self_attn.q_proj", "attention.q"},   {"self_attn.k_proj", "attention.k"},
    {"self_attn.v_proj", "attention.v"},   {"self_attn.o_proj", "attention.output"},
    {"mlp.gate_proj", "mlp.gate"},         {"mlp.up_proj", "mlp.up"},
    {"mlp.down_proj", "mlp.down"}};
constexpr Rename kGpt2Layer[] = {
    {"ln_1", "attention_norm"},          {"ln_2", "mlp_norm"},   {"attn.c_attn", "attention.qkv"},
    {"attn.c_proj", "attention.output"}, {"mlp.c_fc", "mlp.up"}, {"mlp.c_proj", "mlp.down"}};
constexpr Rename kGlobal[] = {{"embed_tokens.weight", "token_embedding"},
                              {"wte.weight", "token_embedding"},
                              {"wpe.weight", "position_embedding"},
                              {"norm.weight", "final_norm.weight"},
                              {"ln_f.weight", "final_norm.weight"},
                              {"ln_f.bias", "final_norm.bias"},
                              {"lm_head.weight", "lm_head"}};

// The canonical name, or empty when the tensor is not used.
std::string CanonicalName(absl::string_view name, Architecture architecture) {
  if (!absl::ConsumePrefix(&name, "model.")) absl::ConsumePrefix(&name, "transformer.");
  for (const Rename& rename : kGlobal) {
    if (name == rename.from) return rename.to;
  }
  const bool llama = architecture == Architecture::kLlama;
  if (!absl::ConsumePrefix(&name, llama ? "layers." : "h.")) return "";
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(name, absl::MaxSplits('.', 1));
  int64_t layer;
  if (!absl::SimpleAtoi(parts.first, &layer)) return "";
  const bool is_bias = absl::EndsWith(parts.second, ".bias");
  const absl::string_view stem = absl::StripSuffix(parts.second, is_bias ? ".bias" : ".weight");
  const absl::Span<const Rename> table =
      llama ? absl::Span<const Rename>(kLlamaLayer) : absl::Span<const Rename>(kGpt2Layer);
  for (const Rename& rename : table) {
    if (stem == rename.from) {
      return LayerTensor(layer, absl::StrCat(rename.to, is_bias ? ".bias" : ".weight"));
    }
  }
  return "";
}

StorageType ToStorageType(SafetensorsType type) {
  switch (type) {
    case SafetensorsType::kF32:
      return StorageType::kF32;
    case SafetensorsType::kF16:
      return StorageType::kF16;
    case SafetensorsType::kBF16:
      return StorageType::kBF16;
  }
  return StorageType::kF32;
}

// Columns [first, first + count) of a matrix [in, out], as rows [count, in].
std::vector<uint8_t> TransposeColumns(const WeightTensor& source, int64_t first, int64_t count,
                                      size_t element) {
  const int64_t rows = source.rows(), columns = source.columns();
  std::vector<uint8_t> bytes(rows * count * element);
  for (int64_t c = 0; c < count; ++c) {
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(bytes.data() + (c * rows + r) * element,
                  source.bytes.data() + (r * columns + first + c) * element, element);
    }
  }
  return bytes;
}

// GPT-2 keeps its linears as Conv1D: [in, out], q, k and v fused by columns.
absl::Status AddGpt2Linear(const WeightTensor& source, WeightCollector& out) {
  const bool fused = absl::StrContains(source.name, ".qkv.");
  const int64_t parts = fused ? 3 : 1;
  const int64_t columns = source.columns();
  if (source.shape.size() > 2 || columns % parts != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", source.name, " has ", columns, " columns, no multiple of ", parts));
  }
  const int64_t count = columns / parts;
  const size_t element = source.type == StorageType::kF32 ? 4 : 2;
  for (int64_t part = 0; part < parts; ++part) {
    WeightTensor tensor = source;
    if (fused) {
      tensor.name.replace(tensor.name.find(".qkv."), 5,
                          absl::StrCat(".", std::string(1, "qkv"[part]), "."));
    }
    if (source.shape.size() == 1) {
      tensor.shape = {count};
      tensor.bytes = source.bytes.subspan(part * count * element, count * element);
      out.Add(std::move(tensor));
      continue;
    }
    tensor.shape = {count, source.rows()};
    out.AddOwned(std::move(tensor), TransposeColumns(source, part * count, count, element));
  }
  return absl::OkStatus();
}

absl::Status AddShard(const std::string& path, Architecture architecture, WeightCollector& out) {
  ASSIGN_OR_RETURN(const auto map, MappedFile::Open(path));
  auto tensors = ParseSafetensors(map->bytes());
  if (!tensors.ok()) {
    return absl::Status(tensors.status().code(),
                        absl::StrCat(path, ": ", tensors.status().message()));
  }
  out.AddMap(map);
  for (const SafetensorsTensor& source : *tensors) {
    WeightTensor tensor{CanonicalName(source.name, architecture), ToStorageType(source.type),
                        source.shape, source.bytes};
    if (tensor.name.empty()) continue;
    const bool linear =
        absl::StrContains(tensor.name, ".attention.") || absl::StrContains(tensor.name, ".mlp.");
    if (architecture == Architecture::kGpt2 && linear) {
      RETURN_IF_ERROR(AddGpt2Linear(tensor, out));
    } else {
      out.Add(std::move(tensor));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<JsonValue> ReadJson(const std::string& path) {
  ASSIGN_OR_RETURN(const auto map, MappedFile::Open(path));
  auto json = JsonValue::Parse(AsText(map->bytes()));
  if (json.ok()) return json;
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", json.status().message()));
}

// model.safetensors, or the shards its index names.
absl::StatusOr<std::vector<std::string>> ShardPaths(const std::string& folder) {
  const auto index = ReadJson(folder + "/model.safetensors.index.json");
  if (absl::IsNotFound(index.status())) {
    return std::vector<std::string>{folder + "/model.safetensors"};
  }
  if (!index.ok()) return index.status();
  ASSIGN_OR_RETURN(const JsonValue weight_map, index->Get("weight_map"));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, weight_map.Keys());
  std::set<std::string> files;
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(const JsonValue value, weight_map.Get(name));
    ASSIGN_OR_RETURN(const std::string file, value.AsString());
    if (file.empty() || absl::StrContains(file, "/")) {
      return absl::InvalidArgumentError(
          absl::StrCat(value.path(), ": \"", file, "\" is no file name"));
    }
    files.insert(absl::StrCat(folder, "/", file));
  }
  return std::vector<std::string>(files.begin(), files.end());
}

// Reads a shape field; the first of `keys` that is there.
absl::Status ReadSize(const JsonValue& json, std::initializer_list<const char*> keys,
                      int32_t& out) {
  for (const char* key : keys) {
    if (!json.Has(key)) continue;
    ASSIGN_OR_RETURN(const JsonValue value, json.Get(key));
    ASSIGN_OR_RETURN(const int64_t size, value.AsInt());
    if (size < 1 || size > (1 << 24)) {
      return absl::InvalidArgumentError(
          absl::StrCat("config.json: ", key, " is ", size, ", expected 1 to ", 1 << 24));
    }
    out = static_cast<int32_t>(size);
    return absl::OkStatus();
  }
  if (out > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("config.json: ", *keys.begin(), " is missing"));
}

absl::StatusOr<RopeConfig::Scaling> ReadScaling(const std::string& type) {
  if (type == "default") return RopeConfig::Scaling::kNone;
  if (type == "linear") return RopeConfig::Scaling::kLinear;
  if (type == "dynamic") return RopeConfig::Scaling::kDynamic;
  if (type == "yarn") return RopeConfig::Scaling::kYarn;
  if (type == "llama3") return RopeConfig::Scaling::kLlama3;
  return absl::InvalidArgumentError(
      absl::StrCat("config.json: rope type is \"", type,
                   "\", expected default, linear, dynamic, yarn or llama3"));
}

absl::Status ReadRope(const JsonValue& json, const ModelConfig& config, RopeConfig& rope) {
  rope.dimensions = config.head_dim;
  ASSIGN_OR_RETURN(rope.theta, json.DoubleOr("rope_theta", 10000.0));
  // Transformers 5 writes rope_parameters, earlier versions rope_scaling.
  const char* key = json.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!json.Has(key)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonValue scaling, json.Get(key));
  ASSIGN_OR_RETURN(const std::string old_type, scaling.StringOr("type", "default"));
  ASSIGN_OR_RETURN(const std::string type, scaling.StringOr("rope_type", old_type));
  ASSIGN_OR_RETURN(rope.scaling, ReadScaling(type));
  ASSIGN_OR_RETURN(rope.theta, scaling.DoubleOr("rope_theta", rope.theta));
  ASSIGN_OR_RETURN(rope.factor, scaling.DoubleOr("factor", 1.0));
  ASSIGN_OR_RETURN(rope.low_frequency_factor, scaling.DoubleOr("low_freq_factor", 1.0));
  ASSIGN_OR_RETURN(rope.high_frequency_factor, scaling.DoubleOr("high_freq_factor", 4.0));
  ASSIGN_OR_RETURN(rope.beta_fast, scaling.DoubleOr("beta_fast", 32.0));
  ASSIGN_OR_RETURN(rope.beta_slow, scaling.DoubleOr("beta_slow", 1.0));
  ASSIGN_OR_RETURN(rope.attention_factor, scaling.DoubleOr("attention_factor", 0.0));
  rope.original_context = config.context_length;
  return ReadSize(scaling, {"original_max_position_embeddings"}, rope.original_context);
}

absl::Status ReadLlama(const JsonValue& json, ModelConfig& config) {
  config.architecture = Architecture::kLlama;
  RETURN_IF_ERROR(ReadSize(json, {"num_hidden_layers"}, config.num_layers));
  RETURN_IF_ERROR(ReadSize(json, {"hidden_size"}, config.hidden_size));
  RETURN_IF_ERROR(ReadSize(json, {"num_attention_heads"}, config.num_heads));
  RETURN_IF_ERROR(ReadSize(json, {"intermediate_size"}, config.intermediate_size));
  RETURN_IF_ERROR(ReadSize(json, {"max_position_embeddings"}, config.context_length));
  config.num_kv_heads = config.num_heads;
  RETURN_IF_ERROR(ReadSize(json, {"num_key_value_heads"}, config.num_kv_heads));
  config.head_dim = config.hidden_size / config.num_heads;
  RETURN_IF_ERROR(ReadSize(json, {"head_dim"}, config.head_dim));
  ASSIGN_OR_RETURN(config.norm_epsilon, json.DoubleOr("rms_norm_eps", 1e-6));
  return ReadRope(json, config, config.rope);
}

absl::Status ReadGpt2(const JsonValue& json, ModelConfig& config) {
  config.architecture = Architecture::kGpt2;
  RETURN_IF_ERROR(ReadSize(json, {"n_layer"}, config.num_layers));
  RETURN_IF_ERROR(ReadSize(json, {"n_embd"}, config.hidden_size));
  RETURN_IF_ERROR(ReadSize(json, {"n_head"}, config.num_heads));
  RETURN_IF_ERROR(ReadSize(json, {"n_positions", "n_ctx"}, config.context_length));
  config.num_kv_heads = config.num_heads;
  config.head_dim = config.hidden_size / config.num_heads;
  config.intermediate_size = 4 * config.hidden_size;
  RETURN_IF_ERROR(ReadSize(json, {"n_inner"}, config.intermediate_size));
  ASSIGN_OR_RETURN(config.norm_epsilon, json.DoubleOr("layer_norm_epsilon", 1e-5));
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadConfig(const std::string& folder) {
  ASSIGN_OR_RETURN(const JsonValue json, ReadJson(folder + "/config.json"));
  ModelConfig config;
  config.name = std::vector<std::string>(absl::StrSplit(folder, '/', absl::SkipEmpty())).back();
  ASSIGN_OR_RETURN(const std::string type, json.StringOr("model_type", ""));
  ASSIGN_OR_RETURN(config.tied_embeddings,
                   json.BoolOr("tie_word_embeddings", /*fallback=*/type == "gpt2"));
  RETURN_IF_ERROR(ReadSize(json, {"vocab_size"}, config.vocabulary_size));
  if (type == "llama") {
    RETURN_IF_ERROR(ReadLlama(json, config));
  } else if (type == "gpt2") {
    RETURN_IF_ERROR(ReadGpt2(json, config));
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("config.json: model_type is \"", type, "\", expected llama or gpt2"));
  }
  return config;
}

}  // namespace

absl::StatusOr<LoadedModel> LoadHuggingFaceFolder(const std::string& path) {
  LoadedModel model;
  ASSIGN_OR_RETURN(model.config, ReadConfig(path));
  RETURN_IF_ERROR(model.config.Validate());
  ASSIGN_OR_RETURN(const std::vector<std::string> shards, ShardPaths(path));
  WeightCollector collector;
  for (const std::string& shard : shards) {
    RETURN_IF_ERROR(AddShard(shard, model.config.architecture, collector));
  }
  ASSIGN_OR_RETURN(model.weights, collector.Finish());
  if (!model.weights->Has("lm_head")) model.config.tied_embeddings = true;
  return model;
}

}  // namespace reprise
