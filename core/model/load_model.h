// LoadModel reads a model from a GGUF v3 file or a Hugging Face folder
// (config.json, model.safetensors or its shards, tokenizer.json).
//
// Tensor names are mapped to one canonical scheme so that architectures need
// know nothing of file formats:
//   token_embedding, position_embedding (learned), final_norm.{weight,bias}, lm_head,
//   layers.N.{attention_norm,mlp_norm}.{weight,bias},
//   layers.N.{attention_post_norm,mlp_post_norm,q_norm,k_norm}.weight,
//   layers.N.attention.{q,k,v,output}.{weight,bias},
//   layers.N.mlp.{gate,up,down}.{weight,bias}   (gate: gated activations)
// Every matrix is [out_features, in_features] and every norm's weight is what it
// multiplies by; Hugging Face GPT-2's Conv1D matrices, which lie transposed, stay so
// (WeightTensor), and its fused c_attn is split, one is added to Hugging Face Gemma's norms, GGUF's
// interleaved Llama q/k rows are put back into Hugging Face's half-split order.
//
// Errors
//   kNotFound         the path or a required tensor, by name.
//   kInvalidArgument  a file that lies about sizes, offsets, shapes or types,
//                     naming the file and the tensor; an unknown architecture.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/base/digest.h"
#include "core/model/model_config.h"
#include "core/model/weights.h"

namespace reprise {

struct LoadedModel {
  ModelConfig config;
  std::shared_ptr<const WeightFile> weights;
  Digest weights_digest{};
};

absl::StatusOr<LoadedModel> LoadModel(const std::string& path);

}  // namespace reprise
