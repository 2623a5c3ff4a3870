// DeviceWeights: a model's weights on the device, matrices packed for the product kernels
// (kernel_args.h), the rest in fp32.
//
// Threading  immutable after Load.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "core/model/cuda/device_memory.h"
#include "core/model/cuda/kernel_args.h"
#include "core/model/load_model.h"

namespace reprise::cuda {

struct DeviceLinear {
  PackedWeights weights;
  DeviceArray<uint8_t> memory;
  DeviceArray<float> bias;  // in packed order; empty: none
};

struct DeviceNorm {
  DeviceArray<float> weight;  // empty: no norm
  DeviceArray<float> bias;    // empty: RMSNorm
};

struct DeviceLayer {
  DeviceNorm attention_norm, mlp_norm;
  DeviceNorm attention_post_norm, mlp_post_norm;
  DeviceNorm q_norm, k_norm;
  DeviceLinear qkv, attention_output, up, down;  // gated: gate and up of `up` interleaved
};

struct DeviceWeights {
  // kNotFound or kInvalidArgument naming the tensor; kResourceExhausted when the device has
  // too little memory.
  static absl::StatusOr<DeviceWeights> Load(const LoadedModel& model, HalfType type);

  int64_t bytes() const;  // of the packed matrices and position embeddings

  DeviceLinear token_embedding;
  std::optional<DeviceLinear> lm_head;    // none: tied to the embedding
  DeviceArray<float> position_embedding;  // learned positions: [context][hidden]
  DeviceNorm final_norm;
  std::vector<DeviceLayer> layers;
};

}  // namespace reprise::cuda
