// KvPool: the memory of the KV blocks. A block is one record
// [layer][K, V][kv_head] of heads in the KV dtype, which lie as attention reads
// them, in steps of n values (2 for bf16, whose dot product takes pairs, else 1):
//   K  [head_dim / n][kBlockTokens][n], head_dim padded with zeros to n
//   V  [kBlockTokens / n][head_dim][n]
// Slots past the written ones are zero.
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

  // One head, `value` false for K and true for V. Up to 64 bytes past it may be read.
  const uint8_t* Head(BlockId block, int layer, bool value, int kv_head) const {
    return data_.get() + block * block_bytes_ + HeadOffset(layer, value, kv_head);
  }

  // Puts `row` [kv_heads * head_dim], already in the KV dtype, into slot `slot`.
  void StoreRow(BlockId block, int layer, bool value, int slot, const uint8_t* row);

  // Copies the first `tokens` slots of every head and zeroes the others; both blocks may
  // be the same.
  void CopySlots(BlockId from, BlockId to, int tokens);

 private:
  int64_t HeadOffset(int layer, bool value, int kv_head) const {
    return layer * kv_heads_ * (key_bytes_ + value_bytes_) +
           (value ? kv_heads_ * key_bytes_ + kv_head * value_bytes_ : kv_head * key_bytes_);
  }
  template <typename Word>
  void CopyHead(const Word* from, bool value, int tokens, Word* to) const;

  int kv_heads_;
  int head_dim_;
  Dtype dtype_;
  int step_;                         // n above
  int64_t key_bytes_, value_bytes_;  // of a head
  int64_t block_bytes_;
  int32_t num_blocks_;
  AlignedArray<uint8_t> data_;
};

}  // namespace reprise
