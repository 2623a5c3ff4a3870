// GPT-Neo: GPT-2 with unscaled attention, every other layer local. Source: Black et
// al. 2021, zenodo 5297715; Hugging Face transformers' modeling_gpt_neo.
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/architectures/architecture.h"
#include "core/model/architectures/config_fields.h"

namespace reprise {
namespace {

constexpr absl::string_view kModelTypes[] = {"gpt_neo"};
constexpr TensorName kLayerNames[] = {{"ln_1", "attention_norm"},
                                      {"ln_2", "mlp_norm"},
                                      {"attn.attention.q_proj", "attention.q"},
                                      {"attn.attention.k_proj", "attention.k"},
                                      {"attn.attention.v_proj", "attention.v"},
                                      {"attn.attention.out_proj", "attention.output"},
                                      {"mlp.c_fc", "mlp.up"},
                                      {"mlp.c_proj", "mlp.down"}};

// One element of attention_types: [["global", "local"], 12] is the kinds, 12 times over.
absl::Status AddRepeatedKinds(const JsonValue& item, int32_t window, ModelConfig& config) {
  ASSIGN_OR_RETURN(const JsonValue kinds, item.At(0));
  ASSIGN_OR_RETURN(const JsonValue repeat_value, item.At(1));
  ASSIGN_OR_RETURN(const int64_t repeats, repeat_value.AsInt());
  const auto limit = static_cast<size_t>(config.num_layers);
  if (repeats < 0 || repeats > config.num_layers || kinds.size() > limit) {
    return absl::InvalidArgumentError(absl::StrCat("config.json: ", item.path(), " is ", repeats,
                                                   " times ", kinds.size(), " kinds, num_layers ",
                                                   config.num_layers));
  }
  for (int64_t repeat = 0; repeat < repeats && config.windows.size() <= limit; ++repeat) {
    for (size_t i = 0; i < kinds.size(); ++i) {
      ASSIGN_OR_RETURN(const JsonValue kind_value, kinds.At(i));
      ASSIGN_OR_RETURN(const std::string kind, kind_value.AsString());
      if (kind != "global" && kind != "local") {
        return absl::InvalidArgumentError(absl::StrCat("config.json: ", kind_value.path(), " is \"",
                                                       kind, "\", expected global or local"));
      }
      config.windows.push_back(kind == "local" ? window : 0);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadAttentionTypes(const JsonValue& json, ModelConfig& config) {
  int32_t window = 256;
  RETURN_IF_ERROR(ReadSize(json, {"window_size"}, window));
  if (!json.Has("attention_types")) {
    for (int i = 0; i < config.num_layers; ++i) config.windows.push_back(i % 2 == 0 ? 0 : window);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const JsonValue types, json.Get("attention_types"));
  for (size_t i = 0; i < types.size(); ++i) {
    ASSIGN_OR_RETURN(const JsonValue item, types.At(i));
    RETURN_IF_ERROR(AddRepeatedKinds(item, window, config));
  }
  if (config.windows.size() == static_cast<size_t>(config.num_layers)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("config.json: attention_types is for ",
                                                 config.windows.size(), " layers, num_layers is ",
                                                 config.num_layers));
}

absl::Status ReadConfig(const JsonValue& json, ModelConfig& config) {
  RETURN_IF_ERROR(CheckText(json, "activation_function", {"gelu_new", "gelu_pytorch_tanh"}));
  RETURN_IF_ERROR(ReadSize(json, {"vocab_size"}, config.vocabulary_size));
  RETURN_IF_ERROR(ReadSize(json, {"num_layers"}, config.num_layers));
  RETURN_IF_ERROR(ReadSize(json, {"hidden_size"}, config.hidden_size));
  RETURN_IF_ERROR(ReadSize(json, {"num_heads"}, config.num_heads));
  RETURN_IF_ERROR(ReadSize(json, {"max_position_embeddings"}, config.context_length));
  config.num_kv_heads = config.num_heads;
  config.head_dim = config.hidden_size / config.num_heads;
  config.intermediate_size = 4 * config.hidden_size;
  RETURN_IF_ERROR(ReadSize(json, {"intermediate_size"}, config.intermediate_size));
  ASSIGN_OR_RETURN(config.norm_epsilon, json.DoubleOr("layer_norm_epsilon", 1e-5));
  config.attention_scale = 1.0;
  return ReadAttentionTypes(json, config);
}

}  // namespace

constexpr ArchitectureDefinition kGptNeoDefinition = {
    .architecture = Architecture::kGptNeo,
    .name = "gpt_neo",
    .layers = {.norm = LayerTraits::Norm::kLayerNorm,
               .positions = LayerTraits::Positions::kLearned,
               .activation = LayerTraits::Activation::kGelu,
               .qkv_bias = LayerTraits::Bias::kNone,
               .output_bias = LayerTraits::Bias::kRequired,
               .mlp_bias = LayerTraits::Bias::kRequired},
    .hugging_face = {.model_types = kModelTypes,
                     .layer_prefix = "h.",
                     .layer_names = kLayerNames,
                     .tied_by_default = true,
                     .read_config = ReadConfig},
    .gguf = {}};

}  // namespace reprise
