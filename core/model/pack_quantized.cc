// GGUF's blocks to and from the columns of a packed panel (weight_format.h).
#include <cstring>

#include "core/model/packed_matrix.h"
#include "core/model/small_floats.h"

namespace reprise {
namespace {

constexpr size_t kByteStep = kPanelColumns * 4;  // bytes of one step of four k
constexpr size_t kNibbleBytes = kQuantBlock * kPanelColumns / 2;
constexpr size_t kHalf = kQuantBlock / 2;

// Where byte `i` of a column's block lies from the block's start.
size_t ByteAt(size_t i, size_t column) { return i / 4 * kByteStep + column * 4 + i % 4; }

// Sizes of the blocks in a file. Source: ggml-common.h.
constexpr size_t kFileQ8_0 = 34, kFileQ4_0 = 18, kFileQ4_1 = 20, kFileQ4_K = 144;

size_t FileBytes(WeightFormat format, size_t depth) {
  const size_t blocks = depth / kQuantBlock;
  switch (format) {
    case WeightFormat::kQ8_0:
      return blocks * kFileQ8_0;
    case WeightFormat::kQ4_0:
      return blocks * kFileQ4_0;
    case WeightFormat::kQ4_1:
      return blocks * kFileQ4_1;
    default:
      return blocks / kSuperBlocks * kFileQ4_K;
  }
}

void PackQ8_0(const uint8_t* from, size_t column, uint8_t* block) {
  for (size_t i = 0; i < kQuantBlock; ++i) {
    block[ByteAt(i, column)] = static_cast<uint8_t>(from[2 + i] + 128);
  }
  std::memcpy(block + 2 * kNibbleBytes + column * 2, from, 2);
}

// A file's byte holds elements i and i + 16, as ours does.
void PackQ4(const uint8_t* from, bool minimum, size_t column, uint8_t* block) {
  const uint8_t* nibbles = from + (minimum ? 4 : 2);
  for (size_t i = 0; i < kHalf; ++i) block[ByteAt(i, column)] = nibbles[i];
  uint8_t* scales = block + kNibbleBytes + column * 2;
  std::memcpy(scales, from, 2);
  if (minimum) std::memcpy(scales + 2 * kPanelColumns, from + 2, 2);
}

// Eight sub-blocks; in the file two of them share 32 bytes, one in the low nibbles.
void PackQ4_K(const uint8_t* from, size_t column, uint8_t* super) {
  std::memcpy(super + column * 2, from, 2);
  std::memcpy(super + (kPanelColumns + column) * 2, from + 2, 2);
  const uint8_t* packed = from + 4;
  for (size_t j = 0; j < kSuperBlocks; ++j) {
    uint8_t* block = super + kPanelColumns * 4 + j * PackedBlockBytes(WeightFormat::kQ4_K);
    const uint8_t* quants = from + 16 + j / 2 * kQuantBlock;
    const int shift = j % 2 == 0 ? 0 : 4;
    for (size_t i = 0; i < kHalf; ++i) {
      const int low = (quants[i] >> shift) & 15, high = (quants[i + kHalf] >> shift) & 15;
      block[ByteAt(i, column)] = static_cast<uint8_t>(low | (high << 4));
    }
    const int scale = j < 4 ? packed[j] & 63 : (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4);
    const int minimum = j < 4 ? packed[j + 4] & 63 : (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4);
    block[kNibbleBytes + column] = static_cast<uint8_t>(scale);
    block[kNibbleBytes + kPanelColumns + column] = static_cast<uint8_t>(minimum);
  }
}

float Half(const uint8_t* from, size_t index) {
  uint16_t bits;
  std::memcpy(&bits, from + index * 2, sizeof(bits));
  return FromFloat16(bits);
}

struct Affine {
  float scale, minimum;
};

// A weight of a column is quant * scale + minimum.
Affine ColumnScale(const uint8_t* super, const uint8_t* block, WeightFormat format, size_t column) {
  const uint8_t* after = block + kNibbleBytes;
  switch (format) {
    case WeightFormat::kQ4_0:
      return {Half(after, column), 0};
    case WeightFormat::kQ4_1:
      return {Half(after, column), Half(after, kPanelColumns + column)};
    default:
      return {Half(super, column) * static_cast<float>(after[column]),
              -(Half(super, kPanelColumns + column) *
                static_cast<float>(after[kPanelColumns + column]))};
  }
}

void UnpackQ8_0(const uint8_t* block, size_t column, float* out) {
  const float scale = Half(block + 2 * kNibbleBytes, column);
  for (size_t i = 0; i < kQuantBlock; ++i) {
    out[i] = static_cast<float>(block[ByteAt(i, column)] - 128) * scale;
  }
}

}  // namespace

void PackBlockPanel(absl::Span<const StoredRow> rows, WeightFormat format, size_t depth,
                    uint8_t* panel) {
  const size_t row_bytes = FileBytes(format, depth);
  const size_t blocks = depth / kQuantBlock / (format == WeightFormat::kQ4_K ? kSuperBlocks : 1);
  const size_t from_bytes = row_bytes / blocks, to_bytes = PanelBytes(format, depth) / blocks;
  for (size_t column = 0; column < rows.size(); ++column) {
    if (rows[column].tensor == nullptr) continue;
    const uint8_t* from = rows[column].tensor->bytes.data() + rows[column].row * row_bytes;
    uint8_t* to = panel;
    for (size_t b = 0; b < blocks; ++b, from += from_bytes, to += to_bytes) {
      if (format == WeightFormat::kQ8_0) {
        PackQ8_0(from, column, to);
      } else if (format == WeightFormat::kQ4_K) {
        PackQ4_K(from, column, to);
      } else {
        PackQ4(from, format == WeightFormat::kQ4_1, column, to);
      }
    }
  }
}

void UnpackBlockRow(const uint8_t* panel, WeightFormat format, size_t depth, size_t column,
                    float* out) {
  const uint8_t* block = panel;
  const uint8_t* super = nullptr;
  for (size_t b = 0; b < depth / kQuantBlock; ++b, block += PackedBlockBytes(format)) {
    float* to = out + b * kQuantBlock;
    if (format == WeightFormat::kQ8_0) {
      UnpackQ8_0(block, column, to);
      continue;
    }
    if (format == WeightFormat::kQ4_K && b % kSuperBlocks == 0) {
      super = block;
      block += kPanelColumns * 4;
    }
    const Affine affine = ColumnScale(super, block, format, column);
    const int offset = format == WeightFormat::kQ4_0 ? 8 : 0;
    for (size_t i = 0; i < kHalf; ++i) {
      const int byte = block[ByteAt(i, column)];
      to[i] = static_cast<float>((byte & 15) - offset) * affine.scale + affine.minimum;
      to[i + kHalf] = static_cast<float>((byte >> 4) - offset) * affine.scale + affine.minimum;
    }
  }
}

}  // namespace reprise
