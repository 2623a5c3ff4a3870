// Models of real shapes with cheap random weights, for timing.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "core/model/load_model.h"

namespace reprise::bench {

// Bytes that look random; the same every time.
inline std::vector<uint8_t> RandomBytes(size_t count) {
  std::vector<uint8_t> bytes((count + 7) / 8 * 8);
  uint64_t state = 1;
  for (size_t i = 0; i < bytes.size(); i += 8) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(bytes.data() + i, &state, 8);
  }
  bytes.resize(count);
  return bytes;
}

// fp32 within +-`scale`.
inline std::vector<uint8_t> RandomFloats(size_t count, float scale) {
  std::vector<uint8_t> bytes = RandomBytes(count * sizeof(float));
  for (size_t i = 0; i < count; ++i) {
    int32_t word;
    std::memcpy(&word, bytes.data() + i * 4, 4);
    const float value = static_cast<float>(word) * 0x1p-31f * scale;
    std::memcpy(bytes.data() + i * 4, &value, 4);
  }
  return bytes;
}

// DialoGPT-medium's shape: GPT-2, 24 layers of 1024.
inline LoadedModel RandomGpt2Medium() {
  LoadedModel model;
  ModelConfig& c = model.config;
  c.name = "gpt2-medium-random";
  c.architecture = Architecture::kGpt2;
  c.num_layers = 24;
  c.hidden_size = 1024;
  c.num_heads = c.num_kv_heads = 16;
  c.head_dim = 64;
  c.intermediate_size = 4096;
  c.vocabulary_size = 50257;
  c.context_length = 1024;
  c.tied_embeddings = true;
  std::vector<std::vector<uint8_t>> owned;
  std::vector<WeightTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    owned.push_back(RandomFloats(count, 0.03f));
    tensors.push_back({name, StorageType::kF32, std::move(shape), ByteView(owned.back())});
  };
  const auto linear = [&](const std::string& name, int64_t rows, int64_t columns) {
    add(name + ".weight", {rows, columns});
    add(name + ".bias", {rows});
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {1024});
    add(name + ".bias", {1024});
  };
  owned.reserve(512);  // keeps the views valid
  add("token_embedding", {c.vocabulary_size, 1024});
  add("position_embedding", {1024, 1024});
  norm("final_norm");
  for (int i = 0; i < c.num_layers; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    norm(layer + "attention_norm");
    norm(layer + "mlp_norm");
    for (const char* part : {"q", "k", "v", "output"})
      linear(layer + "attention." + part, 1024, 1024);
    linear(layer + "mlp.up", 4096, 1024);
    linear(layer + "mlp.down", 1024, 4096);
  }
  model.weights = std::make_shared<const WeightFile>(
      std::vector<std::shared_ptr<const MappedFile>>(), std::move(owned), std::move(tensors));
  return model;
}

}  // namespace reprise::bench
