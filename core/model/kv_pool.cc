#include "core/model/kv_pool.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/model/small_floats.h"

namespace reprise {

KvPool::KvPool(const ModelConfig& config, Dtype dtype, int64_t max_bytes)
    : kv_heads_(config.num_kv_heads),
      head_dim_(config.head_dim),
      dtype_(dtype),
      head_bytes_(int64_t{kBlockTokens} * config.head_dim * DtypeBytes(dtype)),
      block_bytes_(head_bytes_ * config.num_kv_heads * 2 * config.num_layers),
      num_blocks_(static_cast<int32_t>(
          std::clamp<int64_t>(max_bytes / block_bytes_, 0, std::numeric_limits<int32_t>::max()))),
      data_(MakeAligned<uint8_t>(static_cast<size_t>(num_blocks_ * block_bytes_))) {}

void KvPool::StoreRow(BlockId block, int layer, bool value, int slot, const float* row) {
  for (int head = 0; head < kv_heads_; ++head) {
    uint8_t* to = data_.get() + block * block_bytes_ + HeadOffset(layer, value, head) +
                  int64_t{slot} * head_dim_ * DtypeBytes(dtype_);
    const float* from = row + int64_t{head} * head_dim_;
    if (dtype_ == Dtype::kFloat32) {
      std::memcpy(to, from, head_dim_ * sizeof(float));
      continue;
    }
    auto* words = reinterpret_cast<uint16_t*>(to);
    if (dtype_ == Dtype::kBfloat16) {
      for (int i = 0; i < head_dim_; ++i) words[i] = ToBfloat16(from[i]);
    } else {
      for (int i = 0; i < head_dim_; ++i) words[i] = ToFloat16(from[i]);
    }
  }
}

void KvPool::CopySlots(BlockId from, BlockId to, int tokens) {
  const int64_t used = int64_t{tokens} * head_dim_ * DtypeBytes(dtype_);
  for (int64_t head = 0; head < block_bytes_; head += head_bytes_) {
    uint8_t* target = data_.get() + to * block_bytes_ + head;
    std::memcpy(target, data_.get() + from * block_bytes_ + head, used);
    std::memset(target + used, 0, head_bytes_ - used);
  }
}

}  // namespace reprise
