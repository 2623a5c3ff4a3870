// Gemma 3's text model: norms around attention and MLP and on each query and key
// head; five layers in six see a window of keys and rotate by a base of their own.
// Source: Gemma Team 2025, arXiv 2503.19786; Hugging Face transformers'
// modeling_gemma3; llama.cpp's gemma3.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/architectures/architecture.h"
#include "core/model/architectures/config_fields.h"

namespace reprise {
namespace {

constexpr absl::string_view kModelTypes[] = {"gemma3_text", "gemma3"};
constexpr TensorName kLayerNames[] = {{"input_layernorm", "attention_norm"},
                                      {"post_attention_layernorm", "attention_post_norm"},
                                      {"pre_feedforward_layernorm", "mlp_norm"},
                                      {"post_feedforward_layernorm", "mlp_post_norm"},
                                      {"self_attn.q_norm", "q_norm"},
                                      {"self_attn.k_norm", "k_norm"},
                                      {"self_attn.q_proj", "attention.q"},
                                      {"self_attn.k_proj", "attention.k"},
                                      {"self_attn.v_proj", "attention.v"},
                                      {"self_attn.o_proj", "attention.output"},
                                      {"mlp.gate_proj", "mlp.gate"},
                                      {"mlp.up_proj", "mlp.up"},
                                      {"mlp.down_proj", "mlp.down"}};
constexpr int32_t kPattern = 6;  // every sixth layer is global where a file says nothing
constexpr double kLocalTheta = 10000.0;

// Every `pattern`-th layer sees all keys, the others `window`.
void SetWindows(int32_t window, int32_t pattern, ModelConfig& config) {
  for (int i = 1; i <= config.num_layers; ++i) {
    config.windows.push_back(i % pattern == 0 ? 0 : window);
  }
}

absl::Status ReadWindows(const JsonValue& json, ModelConfig& config) {
  ASSIGN_OR_RETURN(const bool listed, ReadLayerTypes(json, config));
  if (listed) return absl::OkStatus();
  int32_t window = 4096, pattern = kPattern;
  RETURN_IF_ERROR(ReadSize(json, {"sliding_window"}, window));
  RETURN_IF_ERROR(ReadSize(json, {"sliding_window_pattern", "_sliding_window_pattern"}, pattern));
  SetWindows(window, pattern, config);
  return absl::OkStatus();
}

// Transformers 5 writes rope_parameters for each kind of layer; earlier versions wrote
// two bases, and a scaling of the global layers only.
absl::Status ReadRopes(const JsonValue& json, ModelConfig& config) {
  RopeConfig local;
  config.rope.dimensions = local.dimensions = config.head_dim;
  ASSIGN_OR_RETURN(config.rope.theta, json.DoubleOr("rope_theta", 1e6));
  ASSIGN_OR_RETURN(local.theta, json.DoubleOr("rope_local_base_freq", kLocalTheta));
  if (json.Has("rope_parameters")) {
    ASSIGN_OR_RETURN(const JsonValue parameters, json.Get("rope_parameters"));
    for (const auto& [key, rope] :
         {std::pair("full_attention", &config.rope), std::pair("sliding_attention", &local)}) {
      if (!parameters.Has(key)) continue;
      ASSIGN_OR_RETURN(const JsonValue scaling, parameters.Get(key));
      RETURN_IF_ERROR(ReadRopeScaling(scaling, config, *rope));
    }
  } else if (json.Has("rope_scaling")) {
    ASSIGN_OR_RETURN(const JsonValue scaling, json.Get("rope_scaling"));
    RETURN_IF_ERROR(ReadRopeScaling(scaling, config, config.rope));
  }
  config.local_rope = local;
  return absl::OkStatus();
}

absl::Status CheckNoSoftcap(const JsonValue& json) {
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (!json.Has(key)) continue;
    ASSIGN_OR_RETURN(const double value, json.DoubleOr(key, 0));
    return absl::InvalidArgumentError(
        absl::StrCat("config.json: ", key, " is ", value, ", expected null"));
  }
  return absl::OkStatus();
}

absl::Status ReadTextConfig(const JsonValue& json, ModelConfig& config) {
  RETURN_IF_ERROR(CheckText(json, "hidden_activation", {"gelu_pytorch_tanh"}));
  RETURN_IF_ERROR(CheckFalse(json, "use_bidirectional_attention"));
  RETURN_IF_ERROR(CheckNoSoftcap(json));
  // Published folders leave out what equals the defaults of transformers' Gemma3TextConfig.
  config.vocabulary_size = 262208;
  config.num_heads = 8;
  config.num_kv_heads = 4;
  config.head_dim = 256;
  config.context_length = 131072;
  RETURN_IF_ERROR(ReadLlamaSizes(json, config));
  ASSIGN_OR_RETURN(const double scalar, json.DoubleOr("query_pre_attn_scalar", 256));
  if (!(scalar > 0)) {
    return absl::InvalidArgumentError(absl::StrCat("config.json: query_pre_attn_scalar is ", scalar,
                                                   ", expected a positive number"));
  }
  config.attention_scale = 1.0 / std::sqrt(scalar);
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  RETURN_IF_ERROR(ReadWindows(json, config));
  return ReadRopes(json, config);
}

// A folder with a vision tower nests the text model's fields.
absl::Status ReadConfig(const JsonValue& json, ModelConfig& config) {
  if (!json.Has("text_config")) return ReadTextConfig(json, config);
  ASSIGN_OR_RETURN(const JsonValue text, json.Get("text_config"));
  return ReadTextConfig(text, config);
}

absl::Status ReadGguf(const GgufFile& file, ModelConfig& config) {
  for (const char* key : {"gemma3.attn_logit_softcapping", "gemma3.final_logit_softcapping"}) {
    ASSIGN_OR_RETURN(const double value, file.DoubleOr(key, 0));
    if (value != 0) {
      return absl::InvalidArgumentError(absl::StrCat(key, " is ", value, ", expected 0"));
    }
  }
  int32_t window = 0, pattern = kPattern;
  RETURN_IF_ERROR(ReadSizeIfThere(file, "gemma3.attention.sliding_window", window));
  RETURN_IF_ERROR(ReadSizeIfThere(file, "gemma3.attention.sliding_window_pattern", pattern));
  if (window > 0) SetWindows(window, pattern, config);
  RopeConfig local;
  local.dimensions = config.rope.dimensions;
  ASSIGN_OR_RETURN(local.theta, file.DoubleOr("gemma3.rope.freq_base_swa", kLocalTheta));
  config.local_rope = local;
  // GGUF has no field for the scale. As in llama.cpp, the 27B model, which has 62 layers,
  // is the one that does not scale by its head size.
  constexpr int32_t kLayersOf27B = 62;
  const int32_t scalar =
      config.num_layers == kLayersOf27B ? config.hidden_size / config.num_heads : config.head_dim;
  config.attention_scale = 1.0 / std::sqrt(static_cast<double>(scalar));
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  return absl::OkStatus();
}

}  // namespace

constexpr ArchitectureDefinition kGemma3Definition = {
    .architecture = Architecture::kGemma3,
    .name = "gemma3",
    .layers = {.activation = LayerTraits::Activation::kGatedGelu,
               .qk_norm = true,
               .post_norms = true},
    .hugging_face = {.model_types = kModelTypes,
                     .layer_prefix = "layers.",
                     .layer_names = kLayerNames,
                     .tied_by_default = true,
                     .norms_less_one = true,
                     .read_config = ReadConfig},
    .gguf = {.name = "gemma3", .read_config = ReadGguf}};

}  // namespace reprise
