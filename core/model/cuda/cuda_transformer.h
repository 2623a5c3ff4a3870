// CudaTransformer: one pass of a model on the device, as launches on a stream. It does
// what core/model/transformer.h does, in halves with fp32 sums and an fp32 residual stream.
//
// A pass is a function of its shape alone: what differs between passes of one shape lies
// in the words that the kernels read (pass_plan.h). So its launches can be captured once.
// Threading  one thread.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "core/model/cuda/device_kv.h"
#include "core/model/cuda/device_weights.h"
#include "core/model/cuda/pass_plan.h"

namespace reprise::cuda {

struct TransformerLimits {
  int32_t max_rows;
  int32_t max_logit_rows;
  int32_t max_positions;  // that the KV pool holds
};

class CudaTransformer {
 public:
  // kNotFound or kInvalidArgument naming the tensor; kResourceExhausted. `kernels` outlives
  // the transformer.
  static absl::StatusOr<std::unique_ptr<CudaTransformer>> Build(const LoadedModel& model,
                                                                HalfType type,
                                                                const TransformerLimits& limits,
                                                                const Kernels& kernels);

  // Enqueues a pass over `words` on the device: KV of every row into its block, logits and
  // the likeliest ids of the logit rows into logits() and likeliest().
  cudaError_t Forward(const PassShape& shape, const int32_t* words, const DeviceKvPool& kv,
                      cudaStream_t stream) const;

  const ModelConfig& config() const { return config_; }
  int64_t weight_bytes() const { return weights_.bytes(); }
  const float* logits() const { return logits_.data(); }          // [logit_rows][vocabulary]
  const int32_t* likeliest() const { return likeliest_.data(); }  // [logit_rows]

 private:
  struct Run;  // the pass at hand
  struct Rotary {
    DeviceArray<float> cosines, sines;  // [positions][half]; empty: not rotary
    int32_t half = 0;
  };

  CudaTransformer(const ModelConfig& config, HalfType type, const Kernels& kernels)
      : config_(config), traits_(TraitsOf(config.architecture)), type_(type), kernels_(kernels) {}

  static absl::StatusOr<Rotary> MakeRotary(const RopeConfig& rope, int32_t positions);
  absl::Status Allocate(const TransformerLimits& limits);
  cudaError_t Embed(const Run& run) const;
  cudaError_t ApplyNorm(const Run& run, const DeviceNorm& norm, const int32_t* source_rows,
                        int32_t rows) const;
  cudaError_t Multiply(const Run& run, const DeviceLinear& linear, ProductArgs args) const;
  cudaError_t AddToResidual(const Run& run, const DeviceLinear& linear, const void* x,
                            const DeviceNorm& post_norm) const;
  cudaError_t Store(const Run& run, int layer) const;
  cudaError_t Attend(const Run& run, int layer) const;
  cudaError_t Attention(const Run& run, int layer) const;
  cudaError_t Mlp(const Run& run, const DeviceLayer& layer) const;
  cudaError_t Logits(const Run& run) const;

  ModelConfig config_;
  const LayerTraits& traits_;
  HalfType type_;
  bool tiles_ = false;  // passes of many rows keep what products read in RowOrder::kTiles
  const Kernels& kernels_;
  DeviceWeights weights_;
  Rotary rotary_, local_rotary_;

  // Activations, [max_rows + kPaddedRows][…] where a product reads them.
  DeviceArray<float> x_, qkv_, added_, logits_;
  DeviceArray<uint16_t> normed_, q_, attended_, activated_;
  DeviceArray<int32_t> likeliest_;
};

}  // namespace reprise::cuda
