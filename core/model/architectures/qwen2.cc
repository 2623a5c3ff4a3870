// Qwen2 and Qwen2.5: Llama with biases on queries, keys and values. Source: Yang et
// al. 2024, arXiv 2407.10671; Hugging Face transformers' modeling_qwen2.
#include "core/base/status_macros.h"
#include "core/model/architectures/architecture.h"
#include "core/model/architectures/config_fields.h"

namespace reprise {
namespace {

constexpr absl::string_view kModelTypes[] = {"qwen2"};

// use_sliding_window gives the layers from max_window_layers on a window.
absl::Status ReadWindows(const JsonValue& json, ModelConfig& config) {
  ASSIGN_OR_RETURN(const bool sliding, json.BoolOr("use_sliding_window", false));
  if (!sliding) return absl::OkStatus();
  ASSIGN_OR_RETURN(const bool listed, ReadLayerTypes(json, config));
  if (listed) return absl::OkStatus();
  int32_t window = 0;
  RETURN_IF_ERROR(ReadSize(json, {"sliding_window"}, window));
  ASSIGN_OR_RETURN(const int64_t first, json.IntOr("max_window_layers", 28));
  for (int i = 0; i < config.num_layers; ++i) config.windows.push_back(i >= first ? window : 0);
  return absl::OkStatus();
}

absl::Status ReadConfig(const JsonValue& json, ModelConfig& config) {
  RETURN_IF_ERROR(CheckText(json, "hidden_act", {"silu"}));
  RETURN_IF_ERROR(ReadLlamaSizes(json, config));
  RETURN_IF_ERROR(ReadWindows(json, config));
  return ReadRope(json, config, config.rope);
}

}  // namespace

constexpr ArchitectureDefinition kQwen2Definition = {
    .architecture = Architecture::kQwen2,
    .name = "qwen2",
    .layers = {.qkv_bias = LayerTraits::Bias::kRequired,
               .output_bias = LayerTraits::Bias::kNone,
               .mlp_bias = LayerTraits::Bias::kNone},
    .hugging_face = {.model_types = kModelTypes,
                     .layer_prefix = "layers.",
                     .layer_names = kLlamaLayerNames,
                     .read_config = ReadConfig},
    .gguf = {.name = "qwen2"}};

}  // namespace reprise
