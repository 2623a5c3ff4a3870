// The 16-bit floats: conversions that round to nearest even; NaN stays NaN.
#pragma once

#include <cstdint>
#include <cstring>

namespace reprise {

inline uint32_t FloatBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float BitsToFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline uint16_t ToBfloat16(float value) {
  const uint32_t bits = FloatBits(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

inline float FromBfloat16(uint16_t bits) { return BitsToFloat(uint32_t{bits} << 16); }

uint16_t ToFloat16(float value);  // past the largest finite one: infinity
float FromFloat16(uint16_t bits);

}  // namespace reprise
