// WeightReader finds a model's tensors by their canonical names (load_model.h), checks
// their shapes, and says which of them make up each part of a layer. Runners pack what
// it returns in layouts of their own.
//
// Threading  immutable; safe from any thread.
// Errors     kNotFound or kInvalidArgument naming the tensor.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/load_model.h"

namespace reprise {

// RMSNorm without bias, LayerNorm with. Without a weight there is no norm.
struct Norm {
  std::vector<float> weight;
  std::vector<float> bias;

  bool empty() const { return weight.empty(); }
};

// Matrices that lie side by side in the output of one product; the bias is empty or covers
// all of them.
struct LinearSource {
  std::vector<const WeightTensor*> matrices;
  std::vector<float> bias;
};

// A layer of any architecture, its products as `Product`.
template <typename Product>
struct LayerOf {
  Norm attention_norm, mlp_norm;
  Norm attention_post_norm, mlp_post_norm;  // of what is added to the residual; may be empty
  Norm q_norm, k_norm;                      // of each head; may be empty
  Product qkv, attention_output;
  Product up, down;  // gated: gate and up side by side
};
using LayerSource = LayerOf<LinearSource>;

class WeightReader {
 public:
  // `model` outlives the reader and what it returns.
  explicit WeightReader(const LoadedModel& model);

  absl::StatusOr<LinearSource> TokenEmbedding() const;
  absl::StatusOr<LinearSource> LmHead() const;  // of models that do not tie it
  // Learned positions, [context][hidden].
  absl::StatusOr<std::vector<float>> PositionEmbedding() const;
  absl::StatusOr<Norm> FinalNorm() const;
  absl::StatusOr<LayerSource> Layer(int index) const;

 private:
  struct Rows {
    std::string name;
    int64_t count;
  };
  using BiasKind = LayerTraits::Bias;

  absl::StatusOr<std::vector<float>> Vector(const std::string& name, int64_t size) const;
  absl::StatusOr<std::vector<float>> Bias(const std::string& name, int64_t size,
                                          BiasKind kind) const;
  absl::StatusOr<Norm> ReadNorm(const std::string& name, int64_t size) const;
  absl::Status ReadNorms(const std::string& prefix, LayerSource& layer) const;
  absl::StatusOr<LinearSource> ReadLinear(const std::vector<Rows>& stems, int64_t columns,
                                          BiasKind kind) const;

  const ModelConfig& config_;
  const WeightFile& weights_;
  const LayerTraits& traits_;
};

}  // namespace reprise
