// Small models with random weights, in memory.
#pragma once

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <string>

#include "core/model/load_model.h"
#include "core/model/small_floats.h"

namespace reprise {

// Sets head_dim and what follows from it.
inline void SetHeadDim(int32_t head_dim, ModelConfig& c) {
  c.head_dim = c.rope.dimensions = head_dim;
  if (c.local_rope) c.local_rope->dimensions = head_dim;
}

// Gives layers turns of `window` keys and of all, and the architecture's scales.
inline void SetLocalLayers(int32_t window, ModelConfig& c) {
  const bool gemma = c.architecture == Architecture::kGemma3;
  if (!gemma && c.architecture != Architecture::kGptNeo) return;
  c.windows.clear();
  for (int i = 0; i < c.num_layers; ++i) c.windows.push_back((i % 2 == 0) == gemma ? window : 0);
  c.attention_scale = gemma ? 1 / std::sqrt(1.25 * c.head_dim) : 1.0;
  if (!gemma) return;
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
  c.rope.theta = 1e6;
  c.local_rope = RopeConfig{.dimensions = c.head_dim};
}

// Quantised super-blocks hold 256 weights. Local layers see fewer keys than a tile of
// multi-head attention has rows, and more than one of grouped attention has.
inline ModelConfig SmallModelConfig(Architecture architecture,
                                    StorageType storage = StorageType::kF32) {
  ModelConfig c;
  c.name = "random";
  c.architecture = architecture;
  c.num_layers = 2;
  c.num_heads = 6;
  c.num_kv_heads = TraitsOf(architecture).rotary() ? 2 : 6;
  SetHeadDim(storage == StorageType::kQ4_K ? 128 : 64, c);
  // Gemma's width is not that of its heads.
  c.hidden_size = architecture == Architecture::kGemma3 ? 512 : c.num_heads * c.head_dim;
  c.intermediate_size = 1024;
  c.vocabulary_size = 331;  // no multiple of any panel
  c.context_length = 256;
  c.tied_embeddings = true;
  SetLocalLayers(24, c);
  return c;
}

// A file of a few kilobytes.
inline ModelConfig TinyModelConfig(Architecture architecture) {
  ModelConfig c = SmallModelConfig(architecture);
  c.num_layers = 1;
  c.num_heads = 2;
  c.num_kv_heads = TraitsOf(architecture).rotary() ? 1 : 2;
  SetHeadDim(8, c);
  c.hidden_size = 16;
  c.intermediate_size = 24;
  c.vocabulary_size = 40;
  c.context_length = 64;
  SetLocalLayers(5, c);
  return c;
}

class RandomModelBuilder {
 public:
  // `storage` is that of the matrices: kF32 or a quantised type.
  explicit RandomModelBuilder(Architecture architecture, StorageType storage = StorageType::kF32)
      : RandomModelBuilder(SmallModelConfig(architecture, storage), storage) {}
  explicit RandomModelBuilder(ModelConfig config, StorageType storage = StorageType::kF32)
      : storage_(storage), config_(std::move(config)) {}

  LoadedModel Build() {
    const ModelConfig& c = config_;
    AddMatrix("token_embedding", c.vocabulary_size, c.hidden_size);
    if (!traits_.rotary()) Add("position_embedding", {c.context_length, c.hidden_size});
    AddNorm("final_norm", c.hidden_size);
    for (int i = 0; i < c.num_layers; ++i) AddLayer("layers." + std::to_string(i) + ".");
    for (size_t i = 0; i < tensors_.size(); ++i) tensors_[i].bytes = ByteView(owned_[i]);
    LoadedModel model;
    model.config = config_;
    model.weights = std::make_shared<const WeightFile>(
        std::vector<std::shared_ptr<const MappedFile>>(), std::move(owned_), std::move(tensors_));
    return model;
  }

 private:
  void Add(const std::string& name, std::vector<int64_t> shape, float offset = 0) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    std::vector<float> values(count);
    std::normal_distribution<float> normal(offset, 0.05f);
    for (float& value : values) value = normal(random_);
    owned_.emplace_back(count * sizeof(float));
    std::memcpy(owned_.back().data(), values.data(), owned_.back().size());
    tensors_.push_back({name, StorageType::kF32, std::move(shape), {}});
  }

  void AddLayer(const std::string& layer) {
    const ModelConfig& c = config_;
    AddNorm(layer + "attention_norm", c.hidden_size);
    AddNorm(layer + "mlp_norm", c.hidden_size);
    const int64_t q_size = c.num_heads * c.head_dim, kv_size = c.num_kv_heads * c.head_dim;
    AddLinear(layer + "attention.q", {q_size, c.hidden_size}, traits_.qkv_bias);
    AddLinear(layer + "attention.k", {kv_size, c.hidden_size}, traits_.qkv_bias);
    AddLinear(layer + "attention.v", {kv_size, c.hidden_size}, traits_.qkv_bias);
    AddLinear(layer + "attention.output", {c.hidden_size, q_size}, traits_.output_bias);
    AddLinear(layer + "mlp.up", {c.intermediate_size, c.hidden_size}, traits_.mlp_bias);
    AddLinear(layer + "mlp.down", {c.hidden_size, c.intermediate_size}, traits_.mlp_bias);
    if (traits_.gated()) {
      AddLinear(layer + "mlp.gate", {c.intermediate_size, c.hidden_size}, traits_.mlp_bias);
    }
    if (traits_.qk_norm) {
      for (const char* norm : {"q_norm", "k_norm"}) AddNorm(layer + norm, c.head_dim);
    }
    if (!traits_.post_norms) return;
    for (const char* norm : {"attention_post_norm", "mlp_post_norm"}) {
      AddNorm(layer + norm, c.hidden_size);
    }
  }

  void AddNorm(const std::string& name, int64_t size) {
    Add(name + ".weight", {size}, 1);
    if (traits_.norm == LayerTraits::Norm::kLayerNorm) Add(name + ".bias", {size});
  }

  void AddLinear(const std::string& name, std::array<int64_t, 2> shape, LayerTraits::Bias bias) {
    AddMatrix(name + ".weight", shape[0], shape[1]);
    if (bias == LayerTraits::Bias::kRequired) Add(name + ".bias", {shape[0]});
  }

  void AddMatrix(const std::string& name, int64_t rows, int64_t columns) {
    if (storage_ == StorageType::kF32) return Add(name, {rows, columns});
    const bool k_quant = storage_ == StorageType::kQ4_K;
    const bool minimum = k_quant || storage_ == StorageType::kQ4_1;
    const int64_t row_bytes = *RowBytes(storage_, columns);
    const int64_t block_bytes = row_bytes / (columns / (k_quant ? 256 : 32));
    std::vector<uint8_t> bytes(rows * row_bytes);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random_());
    // The quants are random; scales give weights of about the size of the others.
    const float largest = storage_ == StorageType::kQ8_0 ? 127 : k_quant ? 15 * 63 : 15;
    for (size_t block = 0; block < bytes.size(); block += block_bytes) {
      const float jitter = static_cast<float>(random_() % 64) / 64;
      const uint16_t scale = ToFloat16(0.1f * (1 + jitter) / largest);
      const uint16_t low = ToFloat16(k_quant ? 0.05f / 63 : -0.05f);
      std::memcpy(bytes.data() + block, &scale, sizeof(scale));
      if (minimum) std::memcpy(bytes.data() + block + 2, &low, sizeof(low));
    }
    owned_.push_back(std::move(bytes));
    tensors_.push_back({name, storage_, {rows, columns}, {}});
  }

  StorageType storage_;
  std::mt19937 random_{7};
  ModelConfig config_;
  const LayerTraits& traits_ = TraitsOf(config_.architecture);
  std::vector<std::vector<uint8_t>> owned_;
  std::vector<WeightTensor> tensors_;
};

}  // namespace reprise
