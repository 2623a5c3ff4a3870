// Small models with random weights, in memory.
#pragma once

#include <cstring>
#include <random>
#include <string>

#include "core/model/load_model.h"
#include "core/model/small_floats.h"

namespace reprise {

// Quantised super-blocks hold 256 weights.
inline ModelConfig SmallModelConfig(Architecture architecture,
                                    StorageType storage = StorageType::kF32) {
  ModelConfig c;
  c.name = "random";
  c.architecture = architecture;
  c.num_layers = 2;
  c.num_heads = 6;
  c.num_kv_heads = architecture == Architecture::kLlama ? 2 : 6;
  c.head_dim = c.rope.dimensions = storage == StorageType::kQ4_K ? 128 : 64;
  c.hidden_size = c.num_heads * c.head_dim;
  c.intermediate_size = 1024;
  c.vocabulary_size = 331;  // no multiple of any panel
  c.context_length = 256;
  c.tied_embeddings = true;
  return c;
}

// A file of a few kilobytes.
inline ModelConfig TinyModelConfig(Architecture architecture) {
  ModelConfig c = SmallModelConfig(architecture);
  c.num_layers = 1;
  c.num_heads = 2;
  c.num_kv_heads = architecture == Architecture::kLlama ? 1 : 2;
  c.head_dim = c.rope.dimensions = 8;
  c.hidden_size = 16;
  c.intermediate_size = 24;
  c.vocabulary_size = 40;
  c.context_length = 64;
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
    const bool llama = c.architecture == Architecture::kLlama;
    AddMatrix("token_embedding", c.vocabulary_size, c.hidden_size);
    if (!llama) Add("position_embedding", {c.context_length, c.hidden_size});
    AddNorm("final_norm");
    for (int i = 0; i < c.num_layers; ++i) {
      const std::string layer = "layers." + std::to_string(i) + ".";
      AddNorm(layer + "attention_norm");
      AddNorm(layer + "mlp_norm");
      AddLinear(layer + "attention.q", c.num_heads * c.head_dim, c.hidden_size);
      AddLinear(layer + "attention.k", c.num_kv_heads * c.head_dim, c.hidden_size);
      AddLinear(layer + "attention.v", c.num_kv_heads * c.head_dim, c.hidden_size);
      AddLinear(layer + "attention.output", c.hidden_size, c.num_heads * c.head_dim);
      AddLinear(layer + "mlp.up", c.intermediate_size, c.hidden_size);
      AddLinear(layer + "mlp.down", c.hidden_size, c.intermediate_size);
      if (llama) AddLinear(layer + "mlp.gate", c.intermediate_size, c.hidden_size);
    }
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

  void AddNorm(const std::string& name) {
    Add(name + ".weight", {config_.hidden_size}, 1);
    if (config_.architecture == Architecture::kGpt2) Add(name + ".bias", {config_.hidden_size});
  }

  void AddLinear(const std::string& name, int64_t rows, int64_t columns) {
    AddMatrix(name + ".weight", rows, columns);
    if (config_.architecture == Architecture::kGpt2) Add(name + ".bias", {rows});
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
  std::vector<std::vector<uint8_t>> owned_;
  std::vector<WeightTensor> tensors_;
};

}  // namespace reprise
