#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/transformer.h"

namespace reprise {

// Reads, checks and packs tensors by their canonical names.
struct Transformer::Builder {
  const ModelConfig& config;
  const WeightFile& weights;
  Dtype dtype;
  const Kernels& kernels;
  ThreadPool& pool;

  absl::StatusOr<PackedMatrix> Matrix(const std::string& name, int64_t rows, int64_t columns) {
    ASSIGN_OR_RETURN(const WeightTensor* tensor, weights.Find(name, {rows, columns}));
    return PackedMatrix::Pack(*tensor, dtype, kernels, pool);
  }

  absl::StatusOr<std::vector<float>> Vector(const std::string& name, int64_t size) {
    ASSIGN_OR_RETURN(const WeightTensor* tensor, weights.Find(name, {size}));
    std::vector<float> values(size);
    DequantizeRows(*tensor, 0, 1, absl::MakeSpan(values));
    return values;
  }

  // A bias is optional in Llama and required in GPT-2.
  absl::StatusOr<std::vector<float>> Bias(const std::string& name, int64_t size) {
    if (config.architecture == Architecture::kLlama && !weights.Has(name)) {
      return std::vector<float>();
    }
    return Vector(name, size);
  }

  absl::StatusOr<Norm> ReadNorm(const std::string& name) {
    Norm norm;
    ASSIGN_OR_RETURN(norm.weight, Vector(name + ".weight", config.hidden_size));
    if (config.architecture == Architecture::kGpt2) {
      ASSIGN_OR_RETURN(norm.bias, Vector(name + ".bias", config.hidden_size));
    }
    return norm;
  }

  absl::StatusOr<Linear> ReadLinear(const std::string& name, int64_t rows, int64_t columns) {
    Linear linear;
    ASSIGN_OR_RETURN(linear.weight, Matrix(name + ".weight", rows, columns));
    ASSIGN_OR_RETURN(linear.bias, Bias(name + ".bias", rows));
    return linear;
  }

  absl::StatusOr<Layer> ReadLayer(int index) {
    const std::string prefix = absl::StrCat("layers.", index, ".");
    const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
    const int64_t q_size = int64_t{config.num_heads} * config.head_dim;
    const int64_t kv_size = int64_t{config.num_kv_heads} * config.head_dim;
    Layer layer;
    ASSIGN_OR_RETURN(layer.attention_norm, ReadNorm(prefix + "attention_norm"));
    ASSIGN_OR_RETURN(layer.mlp_norm, ReadNorm(prefix + "mlp_norm"));
    ASSIGN_OR_RETURN(layer.q, ReadLinear(prefix + "attention.q", q_size, hidden));
    ASSIGN_OR_RETURN(layer.k, ReadLinear(prefix + "attention.k", kv_size, hidden));
    ASSIGN_OR_RETURN(layer.v, ReadLinear(prefix + "attention.v", kv_size, hidden));
    ASSIGN_OR_RETURN(layer.attention_output,
                     ReadLinear(prefix + "attention.output", hidden, q_size));
    ASSIGN_OR_RETURN(layer.up, ReadLinear(prefix + "mlp.up", inner, hidden));
    ASSIGN_OR_RETURN(layer.down, ReadLinear(prefix + "mlp.down", hidden, inner));
    if (config.architecture == Architecture::kLlama) {
      ASSIGN_OR_RETURN(layer.gate, ReadLinear(prefix + "mlp.gate", inner, hidden));
    }
    return layer;
  }
};

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Build(const LoadedModel& model,
                                                                Dtype weight_dtype,
                                                                const Kernels& kernels,
                                                                ThreadPool& pool) {
  const ModelConfig& config = model.config;
  Builder builder{config, *model.weights, weight_dtype, kernels, pool};
  std::unique_ptr<Transformer> made(new Transformer(config, kernels, pool));
  ASSIGN_OR_RETURN(made->token_embedding_,
                   builder.Matrix("token_embedding", config.vocabulary_size, config.hidden_size));
  if (!config.tied_embeddings) {
    ASSIGN_OR_RETURN(made->lm_head_,
                     builder.Matrix("lm_head", config.vocabulary_size, config.hidden_size));
  }
  if (config.architecture == Architecture::kGpt2) {
    ASSIGN_OR_RETURN(
        const WeightTensor* positions,
        model.weights->Find("position_embedding", {config.context_length, config.hidden_size}));
    made->position_embedding_.resize(positions->rows() * positions->columns());
    DequantizeRows(*positions, 0, positions->rows(), absl::MakeSpan(made->position_embedding_));
  }
  for (int i = 0; i < config.num_layers; ++i) {
    ASSIGN_OR_RETURN(Layer layer, builder.ReadLayer(i));
    made->layers_.push_back(std::move(layer));
  }
  ASSIGN_OR_RETURN(made->final_norm_, builder.ReadNorm("final_norm"));
  model.weights->DropPages();
  return made;
}

}  // namespace reprise
