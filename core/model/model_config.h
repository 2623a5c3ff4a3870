// ModelConfig is the shape of a decoder-only transformer, read from a model's
// own files and never assumed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/digest.h"

namespace reprise {

// Part of the identity of cached KV: append only.
enum class Architecture { kGpt2, kLlama, kGptNeo, kQwen2, kGemma3 };
enum class Dtype { kFloat32, kBfloat16, kFloat16 };  // of the KV cache

inline constexpr int32_t kMaxHeadDim = 1024;

int DtypeBytes(Dtype dtype);
const char* DtypeName(Dtype dtype);  // "fp32", "bf16", "fp16"

// Rotary position embedding. Source: Su et al. 2021, arXiv 2104.09864; the
// scaling variants follow Hugging Face transformers' modeling_rope_utils.
struct RopeConfig {
  enum class Scaling { kNone, kLinear, kDynamic, kYarn, kLlama3 };
  double theta = 10000.0;
  int32_t dimensions = 0;  // rotated part of head_dim
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  double low_frequency_factor = 1.0;     // llama3
  double high_frequency_factor = 4.0;    // llama3
  double beta_fast = 32.0;               // yarn
  double beta_slow = 1.0;                // yarn
  double attention_factor = 0.0;         // yarn; 0: derived from factor
  int32_t original_context = 0;          // yarn, llama3
  std::vector<float> frequency_factors;  // of each pair, divide its frequency; empty: all 1
};

// What the layers of an architecture are made of, whatever their size. Each file of
// core/model/architectures says it for its own.
struct LayerTraits {
  enum class Norm { kLayerNorm, kRmsNorm };
  enum class Positions { kLearned, kRotary };
  enum class Activation { kGelu, kGatedSilu, kGatedGelu };  // Gelu: tanh approximation
  enum class Bias { kNone, kOptional, kRequired };
  Norm norm = Norm::kRmsNorm;
  Positions positions = Positions::kRotary;
  Activation activation = Activation::kGatedSilu;
  Bias qkv_bias = Bias::kOptional;
  Bias output_bias = Bias::kOptional;  // of attention
  Bias mlp_bias = Bias::kOptional;
  bool qk_norm = false;     // each head of queries and keys is normed before its rotation
  bool post_norms = false;  // what attention and MLP return is normed before it is added

  bool gated() const { return activation != Activation::kGelu; }
  bool rotary() const { return positions == Positions::kRotary; }
};

const LayerTraits& TraitsOf(Architecture architecture);
const char* ArchitectureName(Architecture architecture);  // "gpt2", "llama"

struct ModelConfig {
  std::string name;  // general.name or the folder's name
  Architecture architecture = Architecture::kLlama;
  int32_t num_layers = 0;
  int32_t hidden_size = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t intermediate_size = 0;
  int32_t vocabulary_size = 0;
  int32_t context_length = 0;
  double norm_epsilon = 1e-5;
  bool tied_embeddings = false;
  double embedding_scale = 1.0;          // on token embeddings
  double attention_scale = 0.0;          // on the scores; 0: 1 / sqrt(head_dim)
  std::vector<int32_t> windows;          // of each layer: the keys that a query sees, its own
                                         // included; 0: all. Empty: all in every layer
  RopeConfig rope;                       // rotary architectures only
  std::optional<RopeConfig> local_rope;  // of layers with a window; none: `rope`

  int32_t window(int layer) const { return windows.empty() ? 0 : windows[layer]; }

  // kInvalidArgument naming the field, its value and the limit.
  absl::Status Validate() const;

  // Adds every field that decides a KV value, tagged.
  void AddTo(DigestBuilder& builder) const;
};

}  // namespace reprise
