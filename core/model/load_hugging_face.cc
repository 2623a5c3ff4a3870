#include <cstring>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/json.h"
#include "core/base/safetensors.h"
#include "core/base/status_macros.h"
#include "core/model/architectures/architecture.h"
#include "core/model/load_sources.h"

namespace reprise {
namespace {

constexpr TensorName kGlobalNames[] = {{"embed_tokens.weight", "token_embedding"},
                                       {"wte.weight", "token_embedding"},
                                       {"wpe.weight", "position_embedding"},
                                       {"norm.weight", "final_norm.weight"},
                                       {"ln_f.weight", "final_norm.weight"},
                                       {"ln_f.bias", "final_norm.bias"},
                                       {"lm_head.weight", "lm_head"}};

// The canonical name, or empty when the tensor is not used, as of a vision tower.
std::string CanonicalName(absl::string_view name, const HuggingFaceLayout& layout) {
  if (!absl::ConsumePrefix(&name, "transformer.")) {
    // A vision model's folder has its text model under either order of the two.
    if (absl::ConsumePrefix(&name, "language_model.")) {
      absl::ConsumePrefix(&name, "model.");
    } else if (absl::ConsumePrefix(&name, "model.")) {
      absl::ConsumePrefix(&name, "language_model.");
    }
  }
  for (const TensorName& global : kGlobalNames) {
    if (name == global.file) return std::string(global.canonical);
  }
  if (!absl::ConsumePrefix(&name, layout.layer_prefix)) return "";
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(name, absl::MaxSplits('.', 1));
  int64_t layer;
  if (!absl::SimpleAtoi(parts.first, &layer)) return "";
  const bool is_bias = absl::EndsWith(parts.second, ".bias");
  const absl::string_view stem = absl::StripSuffix(parts.second, is_bias ? ".bias" : ".weight");
  for (const TensorName& tensor : layout.layer_names) {
    if (stem == tensor.file) {
      return LayerTensor(layer, absl::StrCat(tensor.canonical, is_bias ? ".bias" : ".weight"));
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

// A linear kept as Conv1D: [in, out], q, k and v fused by columns.
absl::Status AddTransposedLinear(const WeightTensor& source, WeightCollector& out) {
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
    tensor.bytes = source.bytes.subspan(part * count * element);
    if (source.shape.size() == 1) {
      tensor.shape = {count};
      tensor.bytes = tensor.bytes.first(count * element);
    } else {
      tensor.shape = {count, source.rows()};
      tensor.transposed_stride = columns;
    }
    out.Add(std::move(tensor));
  }
  return absl::OkStatus();
}

// A norm whose weight w is stored as w - 1, in whatever precision.
void AddNormLessOne(WeightTensor tensor, WeightCollector& out) {
  std::vector<float> values(tensor.rows() * tensor.columns());
  DequantizeRows(tensor, 0, tensor.rows(), absl::MakeSpan(values));
  for (float& value : values) value += 1.0f;
  tensor.type = StorageType::kF32;
  std::vector<uint8_t> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  out.AddOwned(std::move(tensor), std::move(bytes));
}

absl::Status AddTensor(const SafetensorsTensor& source, const HuggingFaceLayout& layout,
                       WeightCollector& out) {
  WeightTensor tensor{CanonicalName(source.name, layout), ToStorageType(source.type), source.shape,
                      source.bytes};
  if (tensor.name.empty()) return absl::OkStatus();
  const bool linear =
      absl::StrContains(tensor.name, ".attention.") || absl::StrContains(tensor.name, ".mlp.");
  if (layout.transposed_linears && linear) return AddTransposedLinear(tensor, out);
  if (layout.norms_less_one && absl::EndsWith(tensor.name, "norm.weight")) {
    AddNormLessOne(std::move(tensor), out);
  } else {
    out.Add(std::move(tensor));
  }
  return absl::OkStatus();
}

absl::Status AddShard(const std::string& path, const HuggingFaceLayout& layout,
                      WeightCollector& out) {
  ASSIGN_OR_RETURN(const auto map, MappedFile::Open(path));
  auto tensors = ParseSafetensors(map->bytes());
  if (!tensors.ok()) {
    return absl::Status(tensors.status().code(),
                        absl::StrCat(path, ": ", tensors.status().message()));
  }
  out.AddMap(map);
  for (const SafetensorsTensor& source : *tensors) {
    RETURN_IF_ERROR(AddTensor(source, layout, out));
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

absl::StatusOr<const ArchitectureDefinition*> FindDefinition(const std::string& model_type) {
  std::vector<absl::string_view> known;
  for (const ArchitectureDefinition* definition : AllArchitectures()) {
    for (const absl::string_view type : definition->hugging_face.model_types) {
      if (model_type == type) return definition;
      known.push_back(type);
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("config.json: model_type is \"", model_type,
                                                 "\", expected ", absl::StrJoin(known, ", ")));
}

absl::StatusOr<ModelConfig> ReadConfig(const std::string& folder) {
  ASSIGN_OR_RETURN(const JsonValue json, ReadJson(folder + "/config.json"));
  ModelConfig config;
  config.name = std::vector<std::string>(absl::StrSplit(folder, '/', absl::SkipEmpty())).back();
  ASSIGN_OR_RETURN(const std::string type, json.StringOr("model_type", ""));
  ASSIGN_OR_RETURN(const ArchitectureDefinition* definition, FindDefinition(type));
  config.architecture = definition->architecture;
  ASSIGN_OR_RETURN(config.tied_embeddings,
                   json.BoolOr("tie_word_embeddings", definition->hugging_face.tied_by_default));
  RETURN_IF_ERROR(definition->hugging_face.read_config(json, config));
  return config;
}

}  // namespace

absl::StatusOr<LoadedModel> LoadHuggingFaceFolder(const std::string& path) {
  LoadedModel model;
  ASSIGN_OR_RETURN(model.config, ReadConfig(path));
  RETURN_IF_ERROR(model.config.Validate());
  ASSIGN_OR_RETURN(const std::vector<std::string> shards, ShardPaths(path));
  const HuggingFaceLayout& layout = DefinitionOf(model.config.architecture).hugging_face;
  WeightCollector collector;
  for (const std::string& shard : shards) {
    RETURN_IF_ERROR(AddShard(shard, layout, collector));
  }
  ASSIGN_OR_RETURN(model.weights, collector.Finish());
  if (!model.weights->Has("lm_head")) model.config.tied_embeddings = true;
  return model;
}

}  // namespace reprise
