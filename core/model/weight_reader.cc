#include "core/model/weight_reader.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise {

WeightReader::WeightReader(const LoadedModel& model)
    : config_(model.config),
      weights_(*model.weights),
      traits_(TraitsOf(model.config.architecture)) {}

absl::StatusOr<std::vector<float>> WeightReader::Vector(const std::string& name,
                                                        int64_t size) const {
  ASSIGN_OR_RETURN(const WeightTensor* tensor, weights_.Find(name, {size}));
  std::vector<float> values(size);
  DequantizeRows(*tensor, 0, 1, absl::MakeSpan(values));
  return values;
}

absl::StatusOr<std::vector<float>> WeightReader::Bias(const std::string& name, int64_t size,
                                                      BiasKind kind) const {
  if (kind == BiasKind::kRequired || (kind == BiasKind::kOptional && weights_.Has(name))) {
    return Vector(name, size);
  }
  if (!weights_.Has(name)) return std::vector<float>();
  return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is there, and ",
                                                 ArchitectureName(config_.architecture),
                                                 " has no such bias"));
}

absl::StatusOr<Norm> WeightReader::ReadNorm(const std::string& name, int64_t size) const {
  Norm norm;
  ASSIGN_OR_RETURN(norm.weight, Vector(name + ".weight", size));
  if (traits_.norm == LayerTraits::Norm::kLayerNorm) {
    ASSIGN_OR_RETURN(norm.bias, Vector(name + ".bias", size));
  }
  return norm;
}

// The linears `stems`, side by side.
absl::StatusOr<LinearSource> WeightReader::ReadLinear(const std::vector<Rows>& stems,
                                                      int64_t columns, BiasKind kind) const {
  LinearSource linear;
  bool any_bias = false;
  for (const Rows& stem : stems) {
    ASSIGN_OR_RETURN(std::vector<float> part, Bias(stem.name + ".bias", stem.count, kind));
    any_bias = any_bias || !part.empty();
    part.resize(stem.count);
    linear.bias.insert(linear.bias.end(), part.begin(), part.end());
  }
  if (!any_bias) linear.bias.clear();
  for (const Rows& stem : stems) {
    ASSIGN_OR_RETURN(const WeightTensor* tensor,
                     weights_.Find(stem.name + ".weight", {stem.count, columns}));
    linear.matrices.push_back(tensor);
  }
  return linear;
}

absl::Status WeightReader::ReadNorms(const std::string& prefix, LayerSource& layer) const {
  const int64_t hidden = config_.hidden_size;
  ASSIGN_OR_RETURN(layer.attention_norm, ReadNorm(prefix + "attention_norm", hidden));
  ASSIGN_OR_RETURN(layer.mlp_norm, ReadNorm(prefix + "mlp_norm", hidden));
  if (traits_.post_norms) {
    ASSIGN_OR_RETURN(layer.attention_post_norm, ReadNorm(prefix + "attention_post_norm", hidden));
    ASSIGN_OR_RETURN(layer.mlp_post_norm, ReadNorm(prefix + "mlp_post_norm", hidden));
  }
  if (!traits_.qk_norm) return absl::OkStatus();
  ASSIGN_OR_RETURN(layer.q_norm, ReadNorm(prefix + "q_norm", config_.head_dim));
  ASSIGN_OR_RETURN(layer.k_norm, ReadNorm(prefix + "k_norm", config_.head_dim));
  return absl::OkStatus();
}

absl::StatusOr<LayerSource> WeightReader::Layer(int index) const {
  const std::string prefix = absl::StrCat("layers.", index, ".");
  const int64_t hidden = config_.hidden_size, inner = config_.intermediate_size;
  const int64_t q_size = int64_t{config_.num_heads} * config_.head_dim;
  const int64_t kv_size = int64_t{config_.num_kv_heads} * config_.head_dim;
  LayerSource layer;
  RETURN_IF_ERROR(ReadNorms(prefix, layer));
  ASSIGN_OR_RETURN(layer.qkv, ReadLinear({{prefix + "attention.q", q_size},
                                          {prefix + "attention.k", kv_size},
                                          {prefix + "attention.v", kv_size}},
                                         hidden, traits_.qkv_bias));
  ASSIGN_OR_RETURN(layer.attention_output, ReadLinear({{prefix + "attention.output", hidden}},
                                                      q_size, traits_.output_bias));
  std::vector<Rows> up = {{prefix + "mlp.up", inner}};
  if (traits_.gated()) up.insert(up.begin(), {prefix + "mlp.gate", inner});
  ASSIGN_OR_RETURN(layer.up, ReadLinear(up, hidden, traits_.mlp_bias));
  ASSIGN_OR_RETURN(layer.down,
                   ReadLinear({{prefix + "mlp.down", hidden}}, inner, traits_.mlp_bias));
  return layer;
}

absl::StatusOr<LinearSource> WeightReader::TokenEmbedding() const {
  LinearSource linear;
  ASSIGN_OR_RETURN(
      const WeightTensor* tensor,
      weights_.Find("token_embedding", {config_.vocabulary_size, config_.hidden_size}));
  linear.matrices.push_back(tensor);
  return linear;
}

absl::StatusOr<LinearSource> WeightReader::LmHead() const {
  LinearSource linear;
  ASSIGN_OR_RETURN(const WeightTensor* tensor,
                   weights_.Find("lm_head", {config_.vocabulary_size, config_.hidden_size}));
  linear.matrices.push_back(tensor);
  return linear;
}

absl::StatusOr<std::vector<float>> WeightReader::PositionEmbedding() const {
  ASSIGN_OR_RETURN(
      const WeightTensor* tensor,
      weights_.Find("position_embedding", {config_.context_length, config_.hidden_size}));
  std::vector<float> values(tensor->rows() * tensor->columns());
  DequantizeRows(*tensor, 0, tensor->rows(), absl::MakeSpan(values));
  return values;
}

absl::StatusOr<Norm> WeightReader::FinalNorm() const {
  return ReadNorm("final_norm", config_.hidden_size);
}

}  // namespace reprise
