#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/transformer.h"

namespace reprise {

// Reads, checks and packs tensors by their canonical names.
struct Transformer::Builder {
  struct Rows {
    std::string name;
    int64_t count;
  };

  using BiasKind = LayerTraits::Bias;

  const ModelConfig& config;
  const WeightFile& weights;
  WeightChoice choice;
  ThreadPool& pool;
  WeightArena arena = {};
  const LayerTraits& traits = TraitsOf(config.architecture);

  // Stacks matrices of `columns` input features; those stored alike and next to
  // each other become one.
  absl::StatusOr<Linear> Stack(absl::Span<const Rows> matrices, int64_t columns,
                               std::vector<float> bias) {
    std::vector<PackedMatrix> parts;
    std::vector<const WeightTensor*> run;
    WeightFormat format{};
    const auto finish = [&] {
      if (!run.empty()) parts.push_back(PackedMatrix::Pack(run, format, arena, pool));
      run.clear();
    };
    for (const Rows& matrix : matrices) {
      ASSIGN_OR_RETURN(const WeightTensor* tensor,
                       weights.Find(matrix.name, {matrix.count, columns}));
      const WeightFormat next = ChooseFormat(choice, tensor->type, columns);
      if (next != format) finish();
      format = next;
      run.push_back(tensor);
    }
    finish();
    return Linear(std::move(parts), std::move(bias));
  }

  absl::StatusOr<std::vector<float>> Vector(const std::string& name, int64_t size) {
    ASSIGN_OR_RETURN(const WeightTensor* tensor, weights.Find(name, {size}));
    std::vector<float> values(size);
    DequantizeRows(*tensor, 0, 1, absl::MakeSpan(values));
    return values;
  }

  absl::StatusOr<std::vector<float>> Bias(const std::string& name, int64_t size, BiasKind kind) {
    if (kind == BiasKind::kRequired || (kind == BiasKind::kOptional && weights.Has(name))) {
      return Vector(name, size);
    }
    if (!weights.Has(name)) return std::vector<float>();
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is there, and ",
                                                   ArchitectureName(config.architecture),
                                                   " has no such bias"));
  }

  absl::StatusOr<Norm> ReadNorm(const std::string& name, int64_t size) {
    Norm norm;
    ASSIGN_OR_RETURN(norm.weight, Vector(name + ".weight", size));
    if (traits.norm == LayerTraits::Norm::kLayerNorm) {
      ASSIGN_OR_RETURN(norm.bias, Vector(name + ".bias", size));
    }
    return norm;
  }

  // The linears `stems`, side by side.
  absl::StatusOr<Linear> ReadLinear(const std::vector<Rows>& stems, int64_t columns,
                                    BiasKind kind) {
    std::vector<Rows> matrices;
    std::vector<float> bias;
    bool any_bias = false;
    for (const Rows& stem : stems) {
      matrices.push_back({stem.name + ".weight", stem.count});
      ASSIGN_OR_RETURN(std::vector<float> part, Bias(stem.name + ".bias", stem.count, kind));
      any_bias = any_bias || !part.empty();
      part.resize(stem.count);
      bias.insert(bias.end(), part.begin(), part.end());
    }
    if (!any_bias) bias.clear();
    return Stack(matrices, columns, std::move(bias));
  }

  absl::Status ReadNorms(const std::string& prefix, Layer& layer) {
    const int64_t hidden = config.hidden_size;
    ASSIGN_OR_RETURN(layer.attention_norm, ReadNorm(prefix + "attention_norm", hidden));
    ASSIGN_OR_RETURN(layer.mlp_norm, ReadNorm(prefix + "mlp_norm", hidden));
    if (traits.post_norms) {
      ASSIGN_OR_RETURN(layer.attention_post_norm, ReadNorm(prefix + "attention_post_norm", hidden));
      ASSIGN_OR_RETURN(layer.mlp_post_norm, ReadNorm(prefix + "mlp_post_norm", hidden));
    }
    if (!traits.qk_norm) return absl::OkStatus();
    ASSIGN_OR_RETURN(layer.q_norm, ReadNorm(prefix + "q_norm", config.head_dim));
    ASSIGN_OR_RETURN(layer.k_norm, ReadNorm(prefix + "k_norm", config.head_dim));
    return absl::OkStatus();
  }

  absl::StatusOr<Layer> ReadLayer(int index) {
    const std::string prefix = absl::StrCat("layers.", index, ".");
    const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
    const int64_t q_size = int64_t{config.num_heads} * config.head_dim;
    const int64_t kv_size = int64_t{config.num_kv_heads} * config.head_dim;
    Layer layer;
    RETURN_IF_ERROR(ReadNorms(prefix, layer));
    ASSIGN_OR_RETURN(layer.qkv, ReadLinear({{prefix + "attention.q", q_size},
                                            {prefix + "attention.k", kv_size},
                                            {prefix + "attention.v", kv_size}},
                                           hidden, traits.qkv_bias));
    ASSIGN_OR_RETURN(layer.attention_output, ReadLinear({{prefix + "attention.output", hidden}},
                                                        q_size, traits.output_bias));
    std::vector<Rows> up = {{prefix + "mlp.up", inner}};
    if (traits.gated()) up.insert(up.begin(), {prefix + "mlp.gate", inner});
    ASSIGN_OR_RETURN(layer.up, ReadLinear(up, hidden, traits.mlp_bias));
    ASSIGN_OR_RETURN(layer.down,
                     ReadLinear({{prefix + "mlp.down", hidden}}, inner, traits.mlp_bias));
    return layer;
  }
};

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Build(const LoadedModel& model,
                                                                WeightChoice weights,
                                                                const Kernels& kernels,
                                                                ThreadPool& pool) {
  const ModelConfig& config = model.config;
  Builder builder{config, *model.weights, weights, pool};
  const int64_t vocabulary = config.vocabulary_size;
  std::unique_ptr<Transformer> made(new Transformer(config, kernels, pool));
  ASSIGN_OR_RETURN(made->token_embedding_,
                   builder.Stack({{"token_embedding", vocabulary}}, config.hidden_size, {}));
  if (!config.tied_embeddings) {
    ASSIGN_OR_RETURN(made->lm_head_,
                     builder.Stack({{"lm_head", vocabulary}}, config.hidden_size, {}));
  }
  if (!builder.traits.rotary()) {
    ASSIGN_OR_RETURN(
        const WeightTensor* positions,
        model.weights->Find("position_embedding", {config.context_length, config.hidden_size}));
    made->position_embedding_.resize(positions->rows() * positions->columns());
    DequantizeRows(*positions, 0, positions->rows(), absl::MakeSpan(made->position_embedding_));
  }
  for (int i = 0; i < config.num_layers; ++i) {
    ASSIGN_OR_RETURN(Layer layer, builder.ReadLayer(i));
    made->layers_.push_back(std::move(layer));
    model.weights->DropPages();  // so that no two copies of the model are ever in memory
  }
  ASSIGN_OR_RETURN(made->final_norm_, builder.ReadNorm("final_norm", config.hidden_size));
  model.weights->DropPages();
  return made;
}

}  // namespace reprise
