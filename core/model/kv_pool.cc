#include "core/model/kv_pool.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "core/model/small_floats.h"

namespace reprise {
namespace {

constexpr size_t kReadPast = 64;
constexpr int kBfloat16Step = 2;

}  // namespace

KvPool::KvPool(const ModelConfig& config, Dtype dtype, int64_t max_bytes)
    : kv_heads_(config.num_kv_heads),
      head_dim_(config.head_dim),
      dtype_(dtype),
      step_(dtype == Dtype::kBfloat16 ? kBfloat16Step : 1),
      key_bytes_(int64_t{kBlockTokens} * ((head_dim_ + step_ - 1) / step_ * step_) *
                 DtypeBytes(dtype)),
      value_bytes_(int64_t{kBlockTokens} * head_dim_ * DtypeBytes(dtype)),
      block_bytes_((key_bytes_ + value_bytes_) * config.num_kv_heads * config.num_layers),
      num_blocks_(static_cast<int32_t>(
          std::clamp<int64_t>(max_bytes / block_bytes_, 0, std::numeric_limits<int32_t>::max()))),
      data_(MakeAligned<uint8_t>(static_cast<size_t>(num_blocks_ * block_bytes_) + kReadPast)) {
  // Takes the pages now, so that no step waits for them and a pool too large shows at start.
  std::memset(data_.get(), 0, static_cast<size_t>(num_blocks_ * block_bytes_));
}

// Writes `row` [head_dim] into slot `slot` of a head.
template <int kStep, typename Word>
void KvPool::StoreHead(const Word* row, bool value, int slot, Word* to) const {
  if (value) {
    Word* first = to + slot / kStep * head_dim_ * kStep + slot % kStep;
    for (int i = 0; i < head_dim_; ++i) first[i * kStep] = row[i];
    return;
  }
  Word* first = to + slot * kStep;
  const int whole = head_dim_ / kStep * kStep;
  for (int i = 0; i < whole; i += kStep) {
    std::memcpy(first + i * kBlockTokens, row + i, kStep * sizeof(Word));
  }
  std::copy_n(row + whole, head_dim_ - whole, first + whole * kBlockTokens);
}

void KvPool::StoreRow(BlockId block, int layer, bool value, int slot, const float* row) {
  std::array<uint16_t, kMaxHeadDim> rounded;
  for (int head = 0; head < kv_heads_; ++head) {
    uint8_t* to = data_.get() + block * block_bytes_ + HeadOffset(layer, value, head);
    const float* from = row + int64_t{head} * head_dim_;
    if (dtype_ == Dtype::kFloat32) {
      StoreHead<1>(from, value, slot, reinterpret_cast<float*>(to));
      continue;
    }
    auto* words = reinterpret_cast<uint16_t*>(to);
    if (dtype_ == Dtype::kBfloat16) {
      for (int i = 0; i < head_dim_; ++i) rounded[i] = ToBfloat16(from[i]);
      StoreHead<kBfloat16Step>(rounded.data(), value, slot, words);
    } else {
      for (int i = 0; i < head_dim_; ++i) rounded[i] = ToFloat16(from[i]);
      StoreHead<1>(rounded.data(), value, slot, words);
    }
  }
}

// Copies the first `tokens` slots of a head; the others become zero.
template <typename Word>
void KvPool::CopyHead(const Word* from, bool value, int tokens, Word* to) const {
  const bool copies = from != to;
  if (!value) {
    const int width = kBlockTokens * step_, used = tokens * step_;
    const Word* end = to + key_bytes_ / static_cast<int64_t>(sizeof(Word));
    for (; to < end; from += width, to += width) {
      if (copies) std::copy_n(from, used, to);
      std::fill(to + used, to + width, Word{0});
    }
    return;
  }
  const int whole = tokens / step_ * step_ * head_dim_;
  const int last = tokens % step_ != 0 ? head_dim_ * step_ : 0;  // a step used in part
  if (copies) std::copy_n(from, whole + last, to);
  for (int i = 0; i < last; ++i) {
    if (i % step_ >= tokens % step_) to[whole + i] = 0;
  }
  std::fill(to + whole + last, to + kBlockTokens * head_dim_, Word{0});
}

void KvPool::CopySlots(BlockId from, BlockId to, int tokens) {
  const uint8_t* source = Block(from).data();
  uint8_t* target = Block(to).data();
  for (int64_t at = 0; at < block_bytes_; at += (key_bytes_ + value_bytes_) * kv_heads_) {
    for (int head = 0; head < 2 * kv_heads_; ++head) {
      const bool value = head >= kv_heads_;
      const int64_t offset = at + HeadOffset(0, value, head % kv_heads_);
      if (dtype_ == Dtype::kFloat32) {
        CopyHead(reinterpret_cast<const float*>(source + offset), value, tokens,
                 reinterpret_cast<float*>(target + offset));
      } else {
        CopyHead(reinterpret_cast<const uint16_t*>(source + offset), value, tokens,
                 reinterpret_cast<uint16_t*>(target + offset));
      }
    }
  }
}

}  // namespace reprise
