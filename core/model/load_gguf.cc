#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/gguf.h"
#include "core/base/status_macros.h"
#include "core/model/architectures/architecture.h"
#include "core/model/architectures/config_fields.h"
#include "core/model/load_sources.h"

namespace reprise {
namespace {

constexpr char kRopeFactors[] = "rope_freqs.weight";

// llama.cpp's names without their ".weight" or ".bias".
constexpr TensorName kGlobalNames[] = {{"token_embd", "token_embedding"},
                                       {"position_embd", "position_embedding"},
                                       {"output_norm", "final_norm"},
                                       {"output", "lm_head"}};
constexpr TensorName kLayerNames[] = {{"attn_norm", "attention_norm"},
                                      {"post_attention_norm", "attention_post_norm"},
                                      {"post_ffw_norm", "mlp_post_norm"},
                                      {"attn_q_norm", "q_norm"},
                                      {"attn_k_norm", "k_norm"},
                                      {"ffn_norm", "mlp_norm"},
                                      {"attn_q", "attention.q"},
                                      {"attn_k", "attention.k"},
                                      {"attn_v", "attention.v"},
                                      {"attn_output", "attention.output"},
                                      {"attn_qkv", "attention.qkv"},
                                      {"ffn_gate", "mlp.gate"},
                                      {"ffn_up", "mlp.up"},
                                      {"ffn_down", "mlp.down"}};

absl::StatusOr<StorageType> ToStorageType(const GgufTensor& tensor) {
  switch (tensor.type) {
    case GgmlType::kF32:
      return StorageType::kF32;
    case GgmlType::kF16:
      return StorageType::kF16;
    case GgmlType::kBF16:
      return StorageType::kBF16;
    case GgmlType::kQ8_0:
      return StorageType::kQ8_0;
    case GgmlType::kQ4_0:
      return StorageType::kQ4_0;
    case GgmlType::kQ4_1:
      return StorageType::kQ4_1;
    case GgmlType::kQ5_0:
      return StorageType::kQ5_0;
    case GgmlType::kQ5_1:
      return StorageType::kQ5_1;
    case GgmlType::kQ4_K:
      return StorageType::kQ4_K;
    case GgmlType::kQ5_K:
      return StorageType::kQ5_K;
    case GgmlType::kQ6_K:
      return StorageType::kQ6_K;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("tensor ", tensor.name, " has type ", static_cast<int>(tensor.type)));
}

// The canonical name without its suffix, or empty when the tensor is not used.
std::string CanonicalStem(absl::string_view stem) {
  for (const TensorName& global : kGlobalNames) {
    if (stem == global.file) return std::string(global.canonical);
  }
  if (!absl::ConsumePrefix(&stem, "blk.")) return "";
  const size_t dot = stem.find('.');
  int64_t layer;
  if (dot == absl::string_view::npos || !absl::SimpleAtoi(stem.substr(0, dot), &layer)) return "";
  for (const TensorName& tensor : kLayerNames) {
    if (stem.substr(dot + 1) == tensor.file) return LayerTensor(layer, tensor.canonical);
  }
  return "";
}

std::string CanonicalName(absl::string_view name) {
  // Embeddings have no bias and canonically no suffix; the rest keeps its own.
  const bool is_bias = absl::EndsWith(name, ".bias");
  const absl::string_view stem = absl::StripSuffix(name, is_bias ? ".bias" : ".weight");
  std::string canonical = CanonicalStem(stem);
  if (canonical.empty()) return "";
  if (absl::EndsWith(canonical, "_embedding") || canonical == "lm_head") return canonical;
  return absl::StrCat(canonical, is_bias ? ".bias" : ".weight");
}

// Rows of each head from llama.cpp's interleaved pairs (0, h/2, 1, h/2 + 1, …)
// back to Hugging Face's halves; a bias has one element a row.
std::vector<uint8_t> Deinterleave(const WeightTensor& tensor, int64_t head_dim) {
  std::vector<uint8_t> bytes(tensor.bytes.size());
  const int64_t rows = tensor.shape[0], half = head_dim / 2;
  const size_t row_bytes = bytes.size() / rows;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / head_dim, within = row % head_dim;
    const int64_t source = head * head_dim + (within % half) * 2 + within / half;
    std::memcpy(bytes.data() + row * row_bytes, tensor.bytes.data() + source * row_bytes,
                row_bytes);
  }
  return bytes;
}

// Splits a fused qkv matrix or bias into its three thirds of rows.
absl::Status AddSplitQkv(const WeightTensor& fused, WeightCollector& out) {
  const bool is_bias = fused.shape.size() == 1;
  const int64_t features = fused.shape[0];
  if (features % 3 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", fused.name, " has ", features, " rows, no multiple of 3"));
  }
  const size_t part_bytes = fused.bytes.size() / 3;
  for (int part = 0; part < 3; ++part) {
    WeightTensor tensor = fused;
    const size_t at = fused.name.rfind(".qkv.");
    tensor.name = absl::StrCat(fused.name.substr(0, at), ".", std::string(1, "qkv"[part]),
                               is_bias ? ".bias" : ".weight");
    tensor.shape[0] = features / 3;
    tensor.bytes = fused.bytes.subspan(part * part_bytes, part_bytes);
    out.Add(std::move(tensor));
  }
  return absl::OkStatus();
}

absl::Status AddTensor(const GgufTensor& source, const ModelConfig& config, WeightCollector& out) {
  WeightTensor tensor;
  tensor.name = CanonicalName(source.name);
  if (tensor.name.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(tensor.type, ToStorageType(source));
  tensor.shape.assign(source.dims.rbegin(), source.dims.rend());
  tensor.bytes = source.bytes;
  if (absl::StrContains(tensor.name, ".qkv.")) return AddSplitQkv(tensor, out);
  const bool rotated = absl::StrContains(tensor.name, "attention.q.") ||
                       absl::StrContains(tensor.name, "attention.k.");
  if (!rotated || !DefinitionOf(config.architecture).gguf.interleaved_rope) {
    out.Add(std::move(tensor));
    return absl::OkStatus();
  }
  if (tensor.shape.size() > 2 || tensor.shape[0] % config.head_dim != 0) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", source.name, " has ", tensor.shape[0],
                                                   " rows, no multiple of head_dim ",
                                                   config.head_dim));
  }
  std::vector<uint8_t> bytes = Deinterleave(tensor, config.head_dim);
  out.AddOwned(std::move(tensor), std::move(bytes));
  return absl::OkStatus();
}

// Llama 3.x files carry their RoPE scaling as one factor a pair.
absl::Status ReadFrequencyFactors(const GgufFile& file, RopeConfig& rope) {
  const auto found =
      std::find_if(file.tensors.begin(), file.tensors.end(),
                   [](const GgufTensor& tensor) { return tensor.name == kRopeFactors; });
  if (found == file.tensors.end()) return absl::OkStatus();
  const int64_t pairs = rope.dimensions / 2;
  if (found->type != GgmlType::kF32 || found->dims != std::vector<int64_t>{pairs}) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", kRopeFactors, " is no vector of ",
                                                   pairs, " F32 values, one for each pair"));
  }
  rope.frequency_factors.resize(pairs);
  std::memcpy(rope.frequency_factors.data(), found->bytes.data(), found->bytes.size());
  for (const float factor : rope.frequency_factors) {
    if (std::isfinite(factor) && factor > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("tensor ", kRopeFactors, " holds ", factor,
                                                   ", expected finite numbers above 0"));
  }
  return absl::OkStatus();
}

absl::StatusOr<RopeConfig> ReadRope(const GgufFile& file, const std::string& arch,
                                    int32_t head_dim) {
  RopeConfig rope;
  rope.dimensions = head_dim;
  ASSIGN_OR_RETURN(rope.theta, file.DoubleOr(arch + ".rope.freq_base", 10000.0));
  RETURN_IF_ERROR(ReadSizeIfThere(file, arch + ".rope.dimension_count", rope.dimensions));
  ASSIGN_OR_RETURN(rope.factor, file.DoubleOr(arch + ".rope.scaling.factor", 1.0));
  RETURN_IF_ERROR(
      ReadSizeIfThere(file, arch + ".rope.scaling.original_context_length", rope.original_context));
  RETURN_IF_ERROR(ReadFrequencyFactors(file, rope));
  ASSIGN_OR_RETURN(const std::string scaling, file.StringOr(arch + ".rope.scaling.type", "none"));
  if (scaling == "linear") {
    rope.scaling = RopeConfig::Scaling::kLinear;
  } else if (scaling == "yarn") {
    rope.scaling = RopeConfig::Scaling::kYarn;
  } else if (scaling != "none") {
    return absl::InvalidArgumentError(absl::StrCat(arch, ".rope.scaling.type is \"", scaling,
                                                   "\", expected none, linear or yarn"));
  }
  return rope;
}

absl::StatusOr<int32_t> Vocabulary(const GgufFile& file) {
  for (const GgufTensor& tensor : file.tensors) {
    if (tensor.name == "token_embd.weight" && tensor.dims.size() == 2 &&
        tensor.dims[1] <= (1 << 24)) {
      return static_cast<int32_t>(tensor.dims[1]);
    }
  }
  return absl::InvalidArgumentError("tensor token_embd.weight is missing or no matrix");
}

absl::StatusOr<const ArchitectureDefinition*> FindDefinition(const std::string& name) {
  std::vector<absl::string_view> known;
  for (const ArchitectureDefinition* definition : AllArchitectures()) {
    if (definition->gguf.name.empty()) continue;
    if (name == definition->gguf.name) return definition;
    known.push_back(definition->gguf.name);
  }
  return absl::InvalidArgumentError(absl::StrCat("general.architecture is \"", name,
                                                 "\", expected ", absl::StrJoin(known, ", ")));
}

// The keys that every architecture has under its own prefix.
absl::Status ReadSharedKeys(const GgufFile& file, const std::string& arch, ModelConfig& config) {
  const LayerTraits& traits = TraitsOf(config.architecture);
  RETURN_IF_ERROR(ReadSize(file, arch + ".block_count", config.num_layers));
  RETURN_IF_ERROR(ReadSize(file, arch + ".embedding_length", config.hidden_size));
  RETURN_IF_ERROR(ReadSize(file, arch + ".attention.head_count", config.num_heads));
  RETURN_IF_ERROR(ReadSize(file, arch + ".feed_forward_length", config.intermediate_size));
  RETURN_IF_ERROR(ReadSize(file, arch + ".context_length", config.context_length));
  config.num_kv_heads = config.num_heads;
  RETURN_IF_ERROR(ReadSizeIfThere(file, arch + ".attention.head_count_kv", config.num_kv_heads));
  config.head_dim = config.hidden_size / config.num_heads;
  RETURN_IF_ERROR(ReadSizeIfThere(file, arch + ".attention.key_length", config.head_dim));
  const bool rms = traits.norm == LayerTraits::Norm::kRmsNorm;
  ASSIGN_OR_RETURN(config.norm_epsilon,
                   file.DoubleOr(arch + (rms ? ".attention.layer_norm_rms_epsilon"
                                             : ".attention.layer_norm_epsilon"),
                                 1e-5));
  ASSIGN_OR_RETURN(config.vocabulary_size, Vocabulary(file));
  if (!traits.rotary()) return absl::OkStatus();
  ASSIGN_OR_RETURN(config.rope, ReadRope(file, arch, config.head_dim));
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadConfig(const GgufFile& file) {
  ModelConfig config;
  ASSIGN_OR_RETURN(const std::string arch, file.String("general.architecture"));
  ASSIGN_OR_RETURN(const ArchitectureDefinition* definition, FindDefinition(arch));
  config.architecture = definition->architecture;
  ASSIGN_OR_RETURN(config.name, file.StringOr("general.name", arch));
  RETURN_IF_ERROR(ReadSharedKeys(file, arch, config));
  if (definition->gguf.read_config != nullptr) {
    RETURN_IF_ERROR(definition->gguf.read_config(file, config));
  }
  return config;
}

}  // namespace

absl::StatusOr<LoadedModel> LoadGgufModel(const std::string& path) {
  ASSIGN_OR_RETURN(const auto map, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const GgufFile file, ParseGguf(map->bytes()));
  LoadedModel model;
  ASSIGN_OR_RETURN(model.config, ReadConfig(file));
  RETURN_IF_ERROR(model.config.Validate());
  WeightCollector collector;
  collector.AddMap(map);
  for (const GgufTensor& tensor : file.tensors) {
    RETURN_IF_ERROR(AddTensor(tensor, model.config, collector));
  }
  ASSIGN_OR_RETURN(model.weights, collector.Finish());
  model.config.tied_embeddings = !model.weights->Has("lm_head");
  return model;
}

}  // namespace reprise
