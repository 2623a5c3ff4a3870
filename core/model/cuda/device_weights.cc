#include "core/model/cuda/device_weights.h"

#include <algorithm>

#include "core/model/cuda/packing.cuh"
#include "core/model/weight_reader.h"

namespace reprise::cuda {
namespace {

constexpr int64_t kStagedFloats = int64_t{1} << 22;

// Moves tensors to the device in pieces of kStagedFloats.
class Uploader {
 public:
  explicit Uploader(HalfType type) : type_(type) {}

  absl::Status Prepare(int64_t longest_row) {
    const int64_t floats = std::max(kStagedFloats, longest_row);
    ASSIGN_OR_RETURN(pinned_, PinnedArray<float>::Make(floats, "staging weights"));
    ASSIGN_OR_RETURN(staged_, DeviceArray<float>::Make(floats, "staging weights"));
    return absl::OkStatus();
  }

  absl::StatusOr<DeviceLinear> Linear(const LinearSource& source, bool gated = false) const {
    DeviceLinear linear;
    const auto depth = static_cast<int32_t>(source.matrices[0]->columns());
    int64_t rows = 0;
    for (const WeightTensor* matrix : source.matrices) rows += matrix->rows();
    linear.weights.type = type_;
    linear.weights.features = static_cast<int32_t>(gated ? rows / 2 : rows);
    linear.weights.steps = Steps(depth);
    const int64_t packed_rows = gated ? PackedFeature(rows / 2 - 1, Interleave::kUp) + 1 : rows;
    const int64_t features_per_pad = kPaddedTiles * kTileFeatures;
    const int64_t padded = (packed_rows + features_per_pad - 1) / features_per_pad;
    linear.weights.tiles = static_cast<int32_t>(padded * kPaddedTiles);
    const int64_t halves = padded * features_per_pad * linear.weights.steps * kStepDepth;
    ASSIGN_OR_RETURN(linear.memory, DeviceArray<uint8_t>::Make(2 * halves, "weights"));
    linear.weights.data = linear.memory.data();
    int64_t first = 0;
    for (size_t i = 0; i < source.matrices.size(); ++i) {
      const Interleave side = i == 0 ? Interleave::kGate : Interleave::kUp;
      RETURN_IF_ERROR(
          Pack(*source.matrices[i], gated ? 0 : first, gated ? side : Interleave::kNone, linear));
      first += source.matrices[i]->rows();
    }
    ASSIGN_OR_RETURN(linear.bias, Bias(source.bias, gated, padded * features_per_pad));
    return linear;
  }

  absl::StatusOr<DeviceNorm> Norm(const reprise::Norm& source) const {
    DeviceNorm norm;
    ASSIGN_OR_RETURN(norm.weight, Upload(absl::MakeConstSpan(source.weight), "a norm"));
    ASSIGN_OR_RETURN(norm.bias, Upload(absl::MakeConstSpan(source.bias), "a norm"));
    return norm;
  }

  absl::StatusOr<DeviceLayer> Layer(const LayerSource& source, bool gated) const {
    DeviceLayer layer;
    ASSIGN_OR_RETURN(layer.attention_norm, Norm(source.attention_norm));
    ASSIGN_OR_RETURN(layer.mlp_norm, Norm(source.mlp_norm));
    ASSIGN_OR_RETURN(layer.attention_post_norm, Norm(source.attention_post_norm));
    ASSIGN_OR_RETURN(layer.mlp_post_norm, Norm(source.mlp_post_norm));
    ASSIGN_OR_RETURN(layer.q_norm, Norm(source.q_norm));
    ASSIGN_OR_RETURN(layer.k_norm, Norm(source.k_norm));
    ASSIGN_OR_RETURN(layer.qkv, Linear(source.qkv));
    ASSIGN_OR_RETURN(layer.attention_output, Linear(source.attention_output));
    ASSIGN_OR_RETURN(layer.up, Linear(source.up, gated));
    ASSIGN_OR_RETURN(layer.down, Linear(source.down));
    return layer;
  }

 private:
  absl::Status Pack(const WeightTensor& tensor, int64_t first_feature, Interleave interleave,
                    const DeviceLinear& to) const {
    const int64_t columns = tensor.columns();
    const int64_t most = static_cast<int64_t>(pinned_.size()) / columns;
    for (int64_t row = 0; row < tensor.rows(); row += most) {
      const int64_t count = std::min(most, tensor.rows() - row);
      const auto floats = static_cast<size_t>(count * columns);
      DequantizeRows(tensor, row, count, absl::MakeSpan(pinned_.data(), floats));
      RETURN_IF_ERROR(ToStatus(cudaMemcpy(staged_.data(), pinned_.data(), floats * sizeof(float),
                                          cudaMemcpyHostToDevice),
                               "copying weights"));
      PackArgs args;
      args.values = staged_.data();
      args.rows = static_cast<int32_t>(count);
      args.depth = static_cast<int32_t>(columns);
      args.first_feature = static_cast<int32_t>(first_feature + row);
      args.interleave = interleave;
      args.type = type_;
      args.steps = to.weights.steps;
      args.packed = to.memory.data();
      RETURN_IF_ERROR(ToStatus(LaunchPack(args, nullptr), "packing weights"));
    }
    return ToStatus(cudaDeviceSynchronize(), "packing weights");
  }

  static absl::StatusOr<DeviceArray<float>> Bias(const std::vector<float>& bias, bool gated,
                                                 int64_t padded) {
    if (bias.empty()) return DeviceArray<float>();
    std::vector<float> packed(padded);
    const size_t half = bias.size() / 2;
    for (size_t i = 0; i < bias.size(); ++i) {
      const bool up = i >= half;
      packed[gated ? PackedFeature(up ? i - half : i, up ? Interleave::kUp : Interleave::kGate)
                   : i] = bias[i];
    }
    return Upload(absl::MakeConstSpan(packed), "a bias");
  }

  HalfType type_;
  PinnedArray<float> pinned_;
  DeviceArray<float> staged_;
};

}  // namespace

absl::StatusOr<DeviceWeights> DeviceWeights::Load(const LoadedModel& model, HalfType type) {
  const ModelConfig& config = model.config;
  const LayerTraits& traits = TraitsOf(config.architecture);
  const WeightReader reader(model);
  Uploader uploader(type);
  RETURN_IF_ERROR(uploader.Prepare(std::max(config.hidden_size, config.intermediate_size)));
  DeviceWeights made;
  ASSIGN_OR_RETURN(const LinearSource embedding, reader.TokenEmbedding());
  ASSIGN_OR_RETURN(made.token_embedding, uploader.Linear(embedding));
  if (!config.tied_embeddings) {
    ASSIGN_OR_RETURN(const LinearSource head, reader.LmHead());
    ASSIGN_OR_RETURN(made.lm_head, uploader.Linear(head));
  }
  if (!traits.rotary()) {
    ASSIGN_OR_RETURN(const std::vector<float> positions, reader.PositionEmbedding());
    ASSIGN_OR_RETURN(made.position_embedding,
                     Upload(absl::MakeConstSpan(positions), "position embeddings"));
  }
  for (int i = 0; i < config.num_layers; ++i) {
    ASSIGN_OR_RETURN(const LayerSource source, reader.Layer(i));
    ASSIGN_OR_RETURN(DeviceLayer layer, uploader.Layer(source, traits.gated()));
    made.layers.push_back(std::move(layer));
    model.weights->DropPages();
  }
  ASSIGN_OR_RETURN(const Norm final_norm, reader.FinalNorm());
  ASSIGN_OR_RETURN(made.final_norm, uploader.Norm(final_norm));
  model.weights->DropPages();
  return made;
}

int64_t DeviceWeights::bytes() const {
  size_t bytes = token_embedding.memory.bytes() + position_embedding.bytes();
  if (lm_head) bytes += lm_head->memory.bytes();
  for (const DeviceLayer& layer : layers) {
    for (const DeviceLinear* linear :
         {&layer.qkv, &layer.attention_output, &layer.up, &layer.down}) {
      bytes += linear->memory.bytes();
    }
  }
  return static_cast<int64_t>(bytes);
}

}  // namespace reprise::cuda
