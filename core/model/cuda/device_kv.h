// DeviceKvPool: the memory of the KV blocks on the device. A block is one record
// [layer][K, V][kv_head] of heads of halves, laid out as attention's fragments read them:
//   K  [16 tokens][padded head_dim]
//   V  [padded head_dim][16 tokens]
// Slots past the written ones and dimensions past head_dim are zero.
//
// Threading  one thread; copies are ordered on the stream given and waited for.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "core/base/bytes.h"
#include "core/base/ids.h"
#include "core/model/cuda/device_memory.h"
#include "core/model/cuda/kernel_args.h"
#include "core/model/model_config.h"

namespace reprise::cuda {

class DeviceKvPool {
 public:
  // kInvalidArgument when not one block fits `max_bytes`.
  static absl::StatusOr<DeviceKvPool> Make(const ModelConfig& config, HalfType type,
                                           int64_t max_bytes);

  int32_t num_blocks() const { return num_blocks_; }
  int64_t block_bytes() const { return block_bytes_; }
  KvLayer Layer(int layer) const;

  absl::Status Read(BlockId block, MutableByteView out, cudaStream_t stream) const;
  absl::Status Write(BlockId block, ByteView in, cudaStream_t stream);

  // Does not wait.
  cudaError_t CopySlots(BlockId from, BlockId to, int tokens, cudaStream_t stream);

 private:
  uint8_t* Block(BlockId block) const { return data_.data() + block * block_bytes_; }

  int layers_ = 0, kv_heads_ = 0, padded_dim_ = 0;
  HalfType type_ = HalfType::kFp16;
  int64_t block_bytes_ = 0;
  int32_t num_blocks_ = 0;
  DeviceArray<uint8_t> data_;
  PinnedArray<uint8_t> staging_;  // one block
};

}  // namespace reprise::cuda
