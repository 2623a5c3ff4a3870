// ggml's block formats, one function each. Source: ggml-quants.c's reference
// dequantize_row_* functions, whose order of operations is kept bit for bit.
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/model/small_floats.h"
#include "core/model/weights.h"

namespace reprise {
namespace {

constexpr int kBlock = 32;        // elements of a simple block
constexpr int kSuperBlock = 256;  // elements of a K-quant block

uint16_t Load16(const uint8_t* from) {
  uint16_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

float LoadHalf(const uint8_t* from) { return FromFloat16(Load16(from)); }

uint32_t Load32(const uint8_t* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// Low nibbles are elements 0..15, high nibbles 16..31.
int Nibble(const uint8_t* quants, int i) { return i < 16 ? quants[i] & 15 : quants[i - 16] >> 4; }

void BlockQ8_0(const uint8_t* b, float* out) {
  const float d = LoadHalf(b);
  for (int i = 0; i < kBlock; ++i) out[i] = static_cast<float>(static_cast<int8_t>(b[2 + i])) * d;
}

void BlockQ4_0(const uint8_t* b, float* out) {
  const float d = LoadHalf(b);
  for (int i = 0; i < kBlock; ++i) out[i] = static_cast<float>(Nibble(b + 2, i) - 8) * d;
}

void BlockQ4_1(const uint8_t* b, float* out) {
  const float d = LoadHalf(b), m = LoadHalf(b + 2);
  for (int i = 0; i < kBlock; ++i) out[i] = static_cast<float>(Nibble(b + 4, i)) * d + m;
}

int FifthBit(const uint8_t* from, int i) { return (Load32(from) >> i) & 1; }

void BlockQ5_0(const uint8_t* b, float* out) {
  const float d = LoadHalf(b);
  for (int i = 0; i < kBlock; ++i) {
    out[i] = static_cast<float>((Nibble(b + 6, i) | (FifthBit(b + 2, i) << 4)) - 16) * d;
  }
}

void BlockQ5_1(const uint8_t* b, float* out) {
  const float d = LoadHalf(b), m = LoadHalf(b + 2);
  for (int i = 0; i < kBlock; ++i) {
    out[i] = static_cast<float>(Nibble(b + 8, i) | (FifthBit(b + 4, i) << 4)) * d + m;
  }
}

// The 6-bit scale and minimum of sub-block `j` out of 12 packed bytes.
struct ScaleMin {
  float scale, minimum;
};
ScaleMin UnpackScale(const uint8_t* s, int j) {
  if (j < 4) return {static_cast<float>(s[j] & 63), static_cast<float>(s[j + 4] & 63)};
  return {static_cast<float>((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4)),
          static_cast<float>((s[j + 4] >> 4) | ((s[j] >> 6) << 4))};
}

// Q4_K and Q5_K: eight sub-blocks of 32; `high` holds the fifth bits or is null.
void BlockK45(const uint8_t* b, const uint8_t* high, const uint8_t* quants, float* out) {
  const float d = LoadHalf(b), dmin = LoadHalf(b + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin sm = UnpackScale(b + 4, j);
    const float scale = d * sm.scale, minimum = dmin * sm.minimum;
    const uint8_t* q = quants + j / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      int value = j % 2 == 0 ? q[i] & 15 : q[i] >> 4;
      if (high != nullptr && ((high[i] >> j) & 1) != 0) value += 16;
      out[j * 32 + i] = scale * static_cast<float>(value) - minimum;
    }
  }
}

void BlockQ4_K(const uint8_t* b, float* out) { BlockK45(b, nullptr, b + 16, out); }
void BlockQ5_K(const uint8_t* b, float* out) { BlockK45(b, b + 16, b + 48, out); }

void BlockQ6_K(const uint8_t* b, float* out) {
  const float d = LoadHalf(b + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = b + half * 64;
    const uint8_t* high = b + 128 + half * 32;
    const auto* scales = reinterpret_cast<const int8_t*>(b + 192 + half * 8);
    for (int i = 0; i < 128; ++i) {
      const int quarter = i / 32, l = i % 32;
      const uint8_t byte = low[l + (quarter % 2) * 32];
      const int nibble = quarter < 2 ? byte & 15 : byte >> 4;
      const int value = (nibble | (((high[l] >> (2 * quarter)) & 3) << 4)) - 32;
      const int sub_block = l / 16 + quarter * 2;
      const float scale = static_cast<float>(scales[sub_block]);
      out[half * 128 + i] = d * scale * static_cast<float>(value);
    }
  }
}

void ElementF32(const uint8_t* b, float* out) { std::memcpy(out, b, sizeof(float)); }
void ElementF16(const uint8_t* b, float* out) { *out = LoadHalf(b); }
void ElementBF16(const uint8_t* b, float* out) { *out = FromBfloat16(Load16(b)); }

struct Format {
  const char* name;
  int elements;  // per block
  int bytes;     // per block
  void (*decode)(const uint8_t* block, float* out);
};

Format FormatOf(StorageType type) {
  switch (type) {
    case StorageType::kF32:
      return {"F32", 1, 4, ElementF32};
    case StorageType::kF16:
      return {"F16", 1, 2, ElementF16};
    case StorageType::kBF16:
      return {"BF16", 1, 2, ElementBF16};
    case StorageType::kQ8_0:
      return {"Q8_0", kBlock, 34, BlockQ8_0};
    case StorageType::kQ4_0:
      return {"Q4_0", kBlock, 18, BlockQ4_0};
    case StorageType::kQ4_1:
      return {"Q4_1", kBlock, 20, BlockQ4_1};
    case StorageType::kQ5_0:
      return {"Q5_0", kBlock, 22, BlockQ5_0};
    case StorageType::kQ5_1:
      return {"Q5_1", kBlock, 24, BlockQ5_1};
    case StorageType::kQ4_K:
      return {"Q4_K", kSuperBlock, 144, BlockQ4_K};
    case StorageType::kQ5_K:
      return {"Q5_K", kSuperBlock, 176, BlockQ5_K};
    case StorageType::kQ6_K:
      return {"Q6_K", kSuperBlock, 210, BlockQ6_K};
  }
  return {"unknown", 1, 1, nullptr};
}

}  // namespace

const char* StorageTypeName(StorageType type) { return FormatOf(type).name; }

absl::StatusOr<int64_t> RowBytes(StorageType type, int64_t columns) {
  const Format format = FormatOf(type);
  if (columns <= 0 || columns % format.elements != 0) {
    return absl::InvalidArgumentError(absl::StrCat("a row of ", columns,
                                                   " elements is no multiple of ", format.elements,
                                                   ", the block of ", format.name));
  }
  return columns / format.elements * format.bytes;
}

void DequantizeRows(const WeightTensor& tensor, int64_t first, int64_t count,
                    absl::Span<float> out) {
  float* to = out.data();
  if (tensor.type == StorageType::kF32) {
    return CopyRows(tensor, first, count, reinterpret_cast<uint8_t*>(to));
  }
  const Format format = FormatOf(tensor.type);
  const int64_t blocks = tensor.columns() / format.elements;
  const uint8_t* from = tensor.bytes.data() + first * blocks * format.bytes;
  std::vector<uint8_t> rows;
  if (tensor.transposed_stride > 0) {
    rows.resize(count * blocks * format.bytes);
    CopyRows(tensor, first, count, rows.data());
    from = rows.data();
  }
  for (int64_t i = 0; i < blocks * count; ++i, from += format.bytes, to += format.elements) {
    format.decode(from, to);
  }
}

}  // namespace reprise
