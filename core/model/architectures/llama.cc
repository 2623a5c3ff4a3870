// Llama. Source: Touvron et al. 2023, arXiv 2302.13971; Hugging Face
// transformers' modeling_llama.
#include "core/base/status_macros.h"
#include "core/model/architectures/architecture.h"
#include "core/model/architectures/config_fields.h"

namespace reprise {
namespace {

constexpr absl::string_view kModelTypes[] = {"llama"};

absl::Status ReadConfig(const JsonValue& json, ModelConfig& config) {
  RETURN_IF_ERROR(CheckText(json, "hidden_act", {"silu"}));
  RETURN_IF_ERROR(ReadLlamaSizes(json, config));
  return ReadRope(json, config, config.rope);
}

}  // namespace

constexpr ArchitectureDefinition kLlamaDefinition = {
    .architecture = Architecture::kLlama,
    .name = "llama",
    .layers = {},
    .hugging_face = {.model_types = kModelTypes,
                     .layer_prefix = "layers.",
                     .layer_names = kLlamaLayerNames,
                     .read_config = ReadConfig},
    .gguf = {.name = "llama", .interleaved_rope = true}};

}  // namespace reprise
