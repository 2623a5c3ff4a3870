// WeightFormat: how a weight matrix W[features][depth] lies in memory once
// packed, and InputFormat: how a product reads the rows it multiplies.
//
// A packed matrix is a row of panels, each kPanelColumns features wide and the
// same for every instruction set; columns past the last feature are zero:
//   kFp32, kFp16  [k][column]
//   kBf16         [k / 2][column][2], depth padded to even
//   kInt8         [k / 4][column][4] bytes q + 128, depth padded to 4; then [column] fp32 scales
//   kQ8_0         per block of 32 k: [8][column][4] bytes q + 128, [column] fp16 scales
//   kQ4_0         per block: [4][column][4] bytes, step s in the low and s + 4 in the high
//                 nibbles; [column] fp16 scales; a weight is (nibble - 8) * scale
//   kQ4_1         as kQ4_0, then [column] fp16 minima; a weight is nibble * scale + minimum
//   kQ4_K         per 8 blocks: [column] fp16 d, [column] fp16 dmin, then for each block nibbles
//                 as kQ4_0, [column] byte s, [column] byte m; a weight is
//                 nibble * (d * s) - dmin * m
// The block formats take the bytes of their GGUF originals (kQ4_K 3% more), so
// a quantised model runs at its own size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/model/weights.h"

namespace reprise {

enum class WeightFormat { kFp32, kBf16, kFp16, kInt8, kQ8_0, kQ4_0, kQ4_1, kQ4_K };
inline constexpr int kWeightFormats = 8;

// What an operator asks for. kAsStored: quantised tensors keep their format
// (those of Q5_* and Q6_K become bf16), all others become bf16.
enum class WeightChoice { kAsStored, kFp32, kBf16, kFp16, kInt8 };

// Rows of a product's input, each padded with zeros to its own record:
//   kFloat32    [depth] floats, depth padded to even
//   kBfloat16   [depth] rounded, depth padded to even
//   kInt8Row    quantised with one scale; see QuantizedRow
//   kInt8Block  quantised with one scale for each 32 values; see QuantizedRow
enum class InputFormat { kFloat32, kBfloat16, kInt8Row, kInt8Block };
inline constexpr int kInputFormats = 4;

inline constexpr size_t kPanelColumns = 32;
inline constexpr size_t kQuantBlock = 32;
inline constexpr size_t kSuperBlocks = 8;  // blocks under one d of kQ4_K

// Deepest kInt8 product whose 32-bit sum cannot overflow.
inline constexpr size_t kMaxInt8Depth = 65536;

const char* WeightFormatName(WeightFormat format);  // "fp32", "q4_1"
const char* WeightChoiceName(WeightChoice choice);  // "as_stored", "fp32"

// The format that a tensor stored as `type` gets.
WeightFormat ChooseFormat(WeightChoice choice, StorageType type, int64_t depth);

// Whether one scale covers kQuantBlock weights.
constexpr bool IsBlockFormat(WeightFormat format) { return format >= WeightFormat::kQ8_0; }

// Bytes of one packed block of a panel, kQ4_K's d and dmin apart.
constexpr size_t PackedBlockBytes(WeightFormat format) {
  const size_t nibbles = kQuantBlock * kPanelColumns / 2;
  if (format == WeightFormat::kQ8_0) return 2 * nibbles + 2 * kPanelColumns;
  if (format == WeightFormat::kQ4_0) return nibbles + 2 * kPanelColumns;
  return nibbles + 4 * kPanelColumns - (format == WeightFormat::kQ4_K ? 2 * kPanelColumns : 0);
}

size_t PanelBytes(WeightFormat format, size_t depth);

// One quantised input row: int8 values, then for each of its blocks a scale, -8
// times the integer sum of its values, and scale * sum.
struct QuantizedRow {
  explicit QuantizedRow(InputFormat format, size_t depth)
      : blocks(format == InputFormat::kInt8Row ? 1 : depth / kQuantBlock),
        scales((depth + 63) / 64 * 64),
        starts(scales + blocks * sizeof(float)),
        scaled_sums(starts + blocks * sizeof(int32_t)) {}

  size_t bytes() const { return (scaled_sums + blocks * sizeof(float) + 63) / 64 * 64; }

  size_t blocks;
  size_t scales, starts, scaled_sums;  // offsets in bytes
};

// Bytes of one prepared row.
size_t InputRowBytes(InputFormat format, size_t depth);

}  // namespace reprise
