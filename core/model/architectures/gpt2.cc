// GPT-2. Source: Radford et al. 2019; Hugging Face transformers' modeling_gpt2.
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/architectures/architecture.h"
#include "core/model/architectures/config_fields.h"

namespace reprise {
namespace {

constexpr absl::string_view kModelTypes[] = {"gpt2"};
constexpr TensorName kLayerNames[] = {
    {"ln_1", "attention_norm"},          {"ln_2", "mlp_norm"},   {"attn.c_attn", "attention.qkv"},
    {"attn.c_proj", "attention.output"}, {"mlp.c_fc", "mlp.up"}, {"mlp.c_proj", "mlp.down"}};

absl::Status ReadConfig(const JsonValue& json, ModelConfig& config) {
  RETURN_IF_ERROR(CheckText(json, "activation_function", {"gelu_new", "gelu_pytorch_tanh"}));
  RETURN_IF_ERROR(CheckFalse(json, "scale_attn_by_inverse_layer_idx"));
  RETURN_IF_ERROR(ReadSize(json, {"vocab_size"}, config.vocabulary_size));
  RETURN_IF_ERROR(ReadSize(json, {"n_layer"}, config.num_layers));
  RETURN_IF_ERROR(ReadSize(json, {"n_embd"}, config.hidden_size));
  RETURN_IF_ERROR(ReadSize(json, {"n_head"}, config.num_heads));
  RETURN_IF_ERROR(ReadSize(json, {"n_positions", "n_ctx"}, config.context_length));
  config.num_kv_heads = config.num_heads;
  config.head_dim = config.hidden_size / config.num_heads;
  config.intermediate_size = 4 * config.hidden_size;
  RETURN_IF_ERROR(ReadSize(json, {"n_inner"}, config.intermediate_size));
  ASSIGN_OR_RETURN(config.norm_epsilon, json.DoubleOr("layer_norm_epsilon", 1e-5));
  ASSIGN_OR_RETURN(const bool scaled, json.BoolOr("scale_attn_weights", true));
  if (!scaled) config.attention_scale = 1.0;
  return absl::OkStatus();
}

}  // namespace

constexpr ArchitectureDefinition kGpt2Definition = {
    .architecture = Architecture::kGpt2,
    .name = "gpt2",
    .layers = {.norm = LayerTraits::Norm::kLayerNorm,
               .positions = LayerTraits::Positions::kLearned,
               .activation = LayerTraits::Activation::kGelu,
               .qkv_bias = LayerTraits::Bias::kRequired,
               .output_bias = LayerTraits::Bias::kRequired,
               .mlp_bias = LayerTraits::Bias::kRequired},
    .hugging_face = {.model_types = kModelTypes,
                     .layer_prefix = "h.",
                     .layer_names = kLayerNames,
                     .tied_by_default = true,
                     .transposed_linears = true,
                     .read_config = ReadConfig},
    .gguf = {.name = "gpt2"}};

}  // namespace reprise
