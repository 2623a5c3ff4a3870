// ArchitectureDefinition: all that one architecture is, apart from the shared
// layers of core/model/transformer.h. Each file of this folder defines one; the
// loaders and the transformer read definitions and name no architecture.
//
// Threading  constants.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/gguf.h"
#include "core/base/json.h"
#include "core/model/model_config.h"

namespace reprise {

// A name in a file and its canonical one (core/model/load_model.h), both
// without their ".weight" or ".bias".
struct TensorName {
  absl::string_view file;
  absl::string_view canonical;
};

// The layers' names in the folders of Llama and of its descendants.
inline constexpr TensorName kLlamaLayerNames[] = {
    {"input_layernorm", "attention_norm"}, {"post_attention_layernorm", "mlp_norm"},
    {"self_attn.q_proj", "attention.q"},   {"self_attn.k_proj", "attention.k"},
    {"self_attn.v_proj", "attention.v"},   {"self_attn.o_proj", "attention.output"},
    {"mlp.gate_proj", "mlp.gate"},         {"mlp.up_proj", "mlp.up"},
    {"mlp.down_proj", "mlp.down"}};

// How Hugging Face's folders hold the architecture.
struct HuggingFaceLayout {
  absl::Span<const absl::string_view> model_types;  // of config.json
  absl::string_view layer_prefix;                   // "layers." or "h."
  absl::Span<const TensorName> layer_names;         // past the prefix and the layer's number
  bool tied_by_default = false;                     // tie_word_embeddings where it is absent
  bool transposed_linears = false;                  // [in, out], q, k and v fused by columns
  bool norms_less_one = false;                      // a norm's weight is stored as weight - 1

  // Fills all but name, architecture and tied_embeddings. Errors name the field.
  absl::Status (*read_config)(const JsonValue& json, ModelConfig& config);
};

// How llama.cpp's GGUF files hold it.
struct GgufLayout {
  absl::string_view name;         // general.architecture; empty: llama.cpp has none
  bool interleaved_rope = false;  // rows of q and k lie in pairs (0, h/2, 1, h/2 + 1, …)

  // Reads what the shared keys do not say; null: nothing. Errors name the key.
  absl::Status (*read_config)(const GgufFile& file, ModelConfig& config) = nullptr;
};

struct ArchitectureDefinition {
  Architecture architecture;
  const char* name;
  LayerTraits layers;
  HuggingFaceLayout hugging_face;
  GgufLayout gguf;
};

extern const ArchitectureDefinition kGpt2Definition;
extern const ArchitectureDefinition kLlamaDefinition;
extern const ArchitectureDefinition kGptNeoDefinition;
extern const ArchitectureDefinition kQwen2Definition;
extern const ArchitectureDefinition kGemma3Definition;

// In the order of the enum.
absl::Span<const ArchitectureDefinition* const> AllArchitectures();

const ArchitectureDefinition& DefinitionOf(Architecture architecture);

}  // namespace reprise
