#include "core/model/cuda/cuda_transformer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/model/cuda/tiled_rows.cuh"
#include "core/model/rope.h"

namespace reprise::cuda {
namespace {

int32_t QSize(const ModelConfig& c) { return c.num_heads * c.head_dim; }
int32_t KvSize(const ModelConfig& c) { return c.num_kv_heads * c.head_dim; }

// Whether the tiled order leaves no gap in what products read, and outputs are even.
bool FitsTiles(const ModelConfig& c) {
  return c.hidden_size % kStepDepth == 0 && QSize(c) % kStepDepth == 0 &&
         c.intermediate_size % kStepDepth == 0;
}

}  // namespace

struct CudaTransformer::Run {
  PassShape shape;
  const int32_t* words;
  PassLayout layout;
  const DeviceKvPool& kv;
  cudaStream_t stream;
  RowOrder order;

  const int32_t* At(int32_t offset) const { return words + offset; }
};

absl::StatusOr<CudaTransformer::Rotary> CudaTransformer::MakeRotary(const RopeConfig& rope,
                                                                    int32_t positions) {
  RotaryTable table(rope, positions);
  table.Reserve(positions);
  Rotary rotary;
  rotary.half = rope.dimensions / 2;
  ASSIGN_OR_RETURN(rotary.cosines, Upload(absl::MakeConstSpan(table.cosines()), "rotations"));
  ASSIGN_OR_RETURN(rotary.sines, Upload(absl::MakeConstSpan(table.sines()), "rotations"));
  return rotary;
}

absl::Status CudaTransformer::Allocate(const TransformerLimits& limits) {
  const ModelConfig& c = config_;
  const size_t rows = limits.max_rows, padded = rows + kPaddedRows;
  const int32_t head = PaddedDepth(c.head_dim);
  ASSIGN_OR_RETURN(x_, DeviceArray<float>::Make(rows * c.hidden_size, "activations"));
  ASSIGN_OR_RETURN(qkv_,
                   DeviceArray<float>::Make(rows * (QSize(c) + 2 * KvSize(c)), "activations"));
  if (traits_.post_norms) {
    ASSIGN_OR_RETURN(added_, DeviceArray<float>::Make(rows * c.hidden_size, "activations"));
  }
  const size_t logits = size_t(limits.max_logit_rows) * c.vocabulary_size;
  ASSIGN_OR_RETURN(logits_, DeviceArray<float>::Make(logits, "logits"));
  ASSIGN_OR_RETURN(likeliest_, DeviceArray<int32_t>::Make(limits.max_logit_rows, "logits"));
  const auto halves = [&](int32_t depth) {
    const size_t atoms = (depth + kAtomDepth - 1) / kAtomDepth;  // the tiled order has whole ones
    return DeviceArray<uint16_t>::Make(padded * atoms * kAtomDepth, "activations");
  };
  ASSIGN_OR_RETURN(normed_, halves(c.hidden_size));
  ASSIGN_OR_RETURN(q_, halves(c.num_heads * head));
  ASSIGN_OR_RETURN(attended_, halves(QSize(c)));
  ASSIGN_OR_RETURN(activated_, halves(c.intermediate_size));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<CudaTransformer>> CudaTransformer::Build(
    const LoadedModel& model, HalfType type, const TransformerLimits& limits,
    const Kernels& kernels) {
  std::unique_ptr<CudaTransformer> made(new CudaTransformer(model.config, type, kernels));
  ASSIGN_OR_RETURN(made->weights_, DeviceWeights::Load(model, type));
  bool has_tiles = false;
  RETURN_IF_ERROR(ToStatus(HasTileProducts(&has_tiles), "asking for the device"));
  made->tiles_ = has_tiles && FitsTiles(model.config);
  if (made->traits_.rotary()) {
    ASSIGN_OR_RETURN(made->rotary_, MakeRotary(model.config.rope, limits.max_positions));
    if (model.config.local_rope) {
      ASSIGN_OR_RETURN(made->local_rotary_,
                       MakeRotary(*model.config.local_rope, limits.max_positions));
    }
  }
  RETURN_IF_ERROR(made->Allocate(limits));
  return made;
}

cudaError_t CudaTransformer::Embed(const Run& run) const {
  EmbedArgs args;
  args.tokens = run.At(run.layout.tokens);
  args.positions = run.At(run.layout.positions);
  args.embedding = weights_.token_embedding.weights;
  args.position_embedding = weights_.position_embedding.data();
  args.scale = static_cast<float>(config_.embedding_scale);
  args.hidden = config_.hidden_size;
  args.rows = run.shape.rows;
  args.x = x_.data();
  return LaunchEmbed(args, run.stream);
}

// normed_ = norm(x_).
cudaError_t CudaTransformer::ApplyNorm(const Run& run, const DeviceNorm& norm,
                                       const int32_t* source_rows, int32_t rows) const {
  NormArgs args;
  args.x = x_.data();
  args.source_rows = source_rows;
  args.weight = norm.weight.data();
  args.bias = norm.bias.data();
  args.epsilon = static_cast<float>(config_.norm_epsilon);
  args.size = config_.hidden_size;
  args.rows = rows;
  args.type = type_;
  args.order = source_rows == nullptr ? run.order : RowOrder::kRows;
  args.out = normed_.data();
  return LaunchNorm(args, run.stream);
}

// `args` says where the rows are and what becomes of the sums.
cudaError_t CudaTransformer::Multiply(const Run& run, const DeviceLinear& linear,
                                      ProductArgs args) const {
  args.weights = linear.weights;
  args.steps_per_slice = StepsPerSlice(linear.weights.steps);
  args.bias = linear.bias.data();
  return kernels_.product(args, run.stream);
}

// x_ += linear(x), or what the norm makes of it.
cudaError_t CudaTransformer::AddToResidual(const Run& run, const DeviceLinear& linear,
                                           const void* x, const DeviceNorm& post_norm) const {
  const bool normed = post_norm.weight.size() > 0;
  ProductArgs args;
  args.order = run.order;
  args.x = x;
  args.rows = run.shape.rows;
  args.epilogue = normed ? Epilogue::kStore : Epilogue::kAdd;
  args.y = normed ? added_.data() : x_.data();
  args.stride = config_.hidden_size;
  RETURN_IF_CUDA_ERROR(Multiply(run, linear, args));
  if (!normed) return cudaSuccess;
  NormArgs norm;
  norm.x = added_.data();
  norm.weight = post_norm.weight.data();
  norm.bias = post_norm.bias.data();
  norm.epsilon = static_cast<float>(config_.norm_epsilon);
  norm.size = config_.hidden_size;
  norm.rows = run.shape.rows;
  norm.add_to = x_.data();
  return LaunchNorm(norm, run.stream);
}

// Rotates q into q_, and k and v into their blocks.
cudaError_t CudaTransformer::Store(const Run& run, int layer) const {
  const DeviceLayer& weights = weights_.layers[layer];
  const bool local = local_rotary_.half > 0 && config_.window(layer) > 0;
  const Rotary& rotary = local ? local_rotary_ : rotary_;
  RotateArgs args;
  args.qkv = qkv_.data();
  args.rows = run.shape.rows;
  args.heads = config_.num_heads;
  args.kv_heads = config_.num_kv_heads;
  args.head_dim = config_.head_dim;
  args.positions = run.At(run.layout.positions);
  args.blocks = run.At(run.layout.blocks);
  args.clears = run.At(run.layout.clears);
  args.cosines = rotary.cosines.data();
  args.sines = rotary.sines.data();
  args.half = rotary.half;
  args.q_norm = weights.q_norm.weight.data();
  args.k_norm = weights.k_norm.weight.data();
  args.epsilon = static_cast<float>(config_.norm_epsilon);
  args.q = q_.data();
  args.kv = run.kv.Layer(layer);
  return LaunchRotateAndStore(args, run.stream);
}

cudaError_t CudaTransformer::Attend(const Run& run, int layer) const {
  const double by_head_dim = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  const double scale = config_.attention_scale > 0 ? config_.attention_scale : by_head_dim;
  AttentionArgs args;
  args.tiles = reinterpret_cast<const AttentionTile*>(run.At(run.layout.tiles));
  args.num_tiles = run.shape.tiles;
  args.wide_tiles = reinterpret_cast<const AttentionTile*>(run.At(run.layout.wide_tiles));
  args.num_wide_tiles = run.shape.wide_tiles;
  args.tables = run.At(run.layout.tables);
  args.q = q_.data();
  args.heads = config_.num_heads;
  args.kv_heads = config_.num_kv_heads;
  args.head_dim = config_.head_dim;
  args.kv = run.kv.Layer(layer);
  args.window = config_.window(layer);
  args.scale = static_cast<float>(scale * std::numbers::log2e);
  args.out_type = type_;
  args.out_order = run.order;
  args.rows = run.shape.rows;
  args.out = attended_.data();
  args.out_stride = PaddedDepth(QSize(config_));
  return kernels_.attention(args, run.stream);
}

cudaError_t CudaTransformer::Attention(const Run& run, int layer) const {
  const DeviceLayer& weights = weights_.layers[layer];
  RETURN_IF_CUDA_ERROR(ApplyNorm(run, weights.attention_norm, nullptr, run.shape.rows));
  ProductArgs args;
  args.order = run.order;
  args.x = normed_.data();
  args.rows = run.shape.rows;
  args.y = qkv_.data();
  args.stride = weights.qkv.weights.features;
  RETURN_IF_CUDA_ERROR(Multiply(run, weights.qkv, args));
  RETURN_IF_CUDA_ERROR(Store(run, layer));
  RETURN_IF_CUDA_ERROR(Attend(run, layer));
  return AddToResidual(run, weights.attention_output, attended_.data(),
                       weights.attention_post_norm);
}

cudaError_t CudaTransformer::Mlp(const Run& run, const DeviceLayer& layer) const {
  using Activation = LayerTraits::Activation;
  RETURN_IF_CUDA_ERROR(ApplyNorm(run, layer.mlp_norm, nullptr, run.shape.rows));
  ProductArgs args;
  args.order = run.order;
  args.x = normed_.data();
  args.rows = run.shape.rows;
  const bool silu = traits_.activation == Activation::kGatedSilu;
  args.epilogue = silu              ? Epilogue::kGatedSilu
                  : traits_.gated() ? Epilogue::kGatedGelu
                                    : Epilogue::kGelu;
  args.out = activated_.data();
  args.stride = PaddedDepth(config_.intermediate_size);
  RETURN_IF_CUDA_ERROR(Multiply(run, layer.up, args));
  return AddToResidual(run, layer.down, activated_.data(), layer.mlp_post_norm);
}

cudaError_t CudaTransformer::Logits(const Run& run) const {
  if (run.shape.logit_rows == 0) return cudaSuccess;
  RETURN_IF_CUDA_ERROR(
      ApplyNorm(run, weights_.final_norm, run.At(run.layout.logit_rows), run.shape.logit_rows));
  ProductArgs args;
  args.x = normed_.data();
  args.rows = run.shape.logit_rows;
  args.y = logits_.data();
  args.stride = config_.vocabulary_size;
  const DeviceLinear& head = weights_.lm_head ? *weights_.lm_head : weights_.token_embedding;
  RETURN_IF_CUDA_ERROR(Multiply(run, head, args));
  ArgMaxArgs choose;
  choose.logits = logits_.data();
  choose.rows = run.shape.logit_rows;
  choose.vocabulary = config_.vocabulary_size;
  choose.banned = run.At(run.layout.banned);
  choose.ids = likeliest_.data();
  return LaunchArgMax(choose, run.stream);
}

cudaError_t CudaTransformer::Forward(const PassShape& shape, const int32_t* words,
                                     const DeviceKvPool& kv, cudaStream_t stream) const {
  const bool tiles = tiles_ && shape.rows > kThinRows;
  const Run run{shape, words,  PassLayout(shape),
                kv,    stream, tiles ? RowOrder::kTiles : RowOrder::kRows};
  RETURN_IF_CUDA_ERROR(Embed(run));
  for (int i = 0; i < config_.num_layers; ++i) {
    RETURN_IF_CUDA_ERROR(Attention(run, i));
    RETURN_IF_CUDA_ERROR(Mlp(run, weights_.layers[i]));
  }
  return Logits(run);
}

}  // namespace reprise::cuda
