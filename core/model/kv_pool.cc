#include "core/model/kv_pool.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace reprise {
namespace {

constexpr size_t kReadPast = 64;
constexpr int kBfloat16Step = 2;

// Writes values of one slot of a step of two, which lies in half `half` of each pair.
void StoreHalves(const uint16_t* row, int size, int half, uint16_t* pairs) {
  const uint32_t keep = half == 0 ? 0xffff0000u : 0xffffu;
  for (int i = 0; i < size; ++i) {
    uint32_t pair;
    std::memcpy(&pair, pairs + 2 * i, sizeof(pair));
    pair = (pair & keep) | (uint32_t{row[i]} << (16 * half));
    std::memcpy(pairs + 2 * i, &pair, sizeof(pair));
  }
}

// Writes `row` [head_dim] into slot `slot` of a head whose steps hold one value.
template <typename Word>
void StoreSingles(const Word* row, int size, bool value, int slot, Word* to) {
  if (value) {
    std::copy_n(row, size, to + int64_t{slot} * size);
    return;
  }
  for (int i = 0; i < size; ++i) to[i * kBlockTokens + slot] = row[i];
}

// The same where they hold two.
void StorePairs(const uint16_t* row, int size, bool value, int slot, uint16_t* to) {
  if (value) return StoreHalves(row, size, slot % 2, to + slot / 2 * size * 2);
  uint16_t* first = to + slot * 2;
  for (int i = 0; i + 1 < size; i += 2) {
    std::memcpy(first + i * kBlockTokens, row + i, 2 * sizeof(uint16_t));
  }
  if (size % 2 != 0) first[(size - 1) * kBlockTokens] = row[size - 1];
}

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

void KvPool::StoreRow(BlockId block, int layer, bool value, int slot, const uint8_t* row) {
  for (int head = 0; head < kv_heads_; ++head) {
    uint8_t* to = data_.get() + block * block_bytes_ + HeadOffset(layer, value, head);
    const uint8_t* from = row + int64_t{head} * head_dim_ * DtypeBytes(dtype_);
    const auto* halves = reinterpret_cast<const uint16_t*>(from);
    switch (dtype_) {
      case Dtype::kFloat32:
        StoreSingles(reinterpret_cast<const float*>(from), head_dim_, value, slot,
                     reinterpret_cast<float*>(to));
        break;
      case Dtype::kFloat16:
        StoreSingles(halves, head_dim_, value, slot, reinterpret_cast<uint16_t*>(to));
        break;
      case Dtype::kBfloat16:
        StorePairs(halves, head_dim_, value, slot, reinterpret_cast<uint16_t*>(to));
        break;
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
