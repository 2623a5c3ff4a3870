// KvPool: the memory of the KV blocks. A block is one record
// [layer][K, V][kv_head][kBlockTokens][head_dim] of the KV dtype; slots past
// the written ones are zero.
//
// Threading  one writer at a time per block; readers of other blocks are free.
#pragma once

#include <cstdint>

#include "core/base/bytes.h"
#include "core/base/ids.h"
#include "core/model/model_config.h"
#include "core/model/packed_matrix.h"

namespace reprise {

class KvPool {
 public:
  KvPool(const ModelConfig& config, Dtype dtype, int64_t max_bytes);

  int32_t num_blocks() const { return num_blocks_; }
  int64_t block_bytes() const { return block_bytes_; }
  Dtype dtype() const { return dtype_; }

  MutableByteView Block(BlockId block) {
    return {data_.get() + block * block_bytes_, static_cast<size_t>(block_bytes_)};
  }
  ByteView Block(BlockId block) const {
    return {data_.get() + block * block_bytes_, static_cast<size_t>(block_bytes_)};
  }

  // [kBlockTokens][head_dim] of one head, `value` false for K and true for V.
  const uint8_t* Head(BlockId block, int layer, bool value, int kv_head) const {
    return data_.get() + block * block_bytes_ + HeadOffset(layer, value, kv_head);
  }

  // Rounds `row` [kv_heads * head_dim] into slot `slot`.
  void StoreRow(BlockId block, int layer, bool value, int slot, const float* row);

  // Copies the first `tokens` slots of every head and zeroes the others.
  void CopySlots(BlockId from, BlockId to, int tokens);

 private:
  int64_t HeadOffset(int layer, bool value, int kv_head) const {
    return ((int64_t{layer} * 2 + (value ? 1 : 0)) * kv_heads_ + kv_head) * head_bytes_;
  }

  int kv_heads_;
  int head_dim_;
  Dtype dtype_;
  int64_t head_bytes_;
  int64_t block_bytes_;
  int32_t num_blocks_;
  AlignedArray<uint8_t> data_;
};

}  // namespace reprise
