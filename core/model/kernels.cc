#include "core/model/kernels.h"

#include <xmmintrin.h>

#include <cstring>

namespace reprise {

namespace kernels_avx512 {
Kernels Table(const char* name);
}
namespace kernels_avx2 {
Kernels Table(const char* name);
}
namespace kernels_portable {
Kernels Table(const char* name);
}

namespace {

bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

const Kernels* SelectKernels(const char* name) {
  static const Kernels avx512 = kernels_avx512::Table("avx512");
  static const Kernels avx2 = kernels_avx2::Table("avx2");
  static const Kernels portable = kernels_portable::Table("portable");
  const bool any = name[0] == '\0';
  if ((any || std::strcmp(name, avx512.instruction_set) == 0) && HasAvx512()) return &avx512;
  if ((any || std::strcmp(name, avx2.instruction_set) == 0) && HasAvx2()) return &avx2;
  if (any || std::strcmp(name, portable.instruction_set) == 0) return &portable;
  return nullptr;
}

size_t AttentionScratchFloats(size_t group, size_t head_dim, int32_t last_position) {
  const size_t keys = (last_position + kBlockTokens) / kBlockTokens * kBlockTokens;
  const size_t padded_dim = (head_dim + 15) / 16 * 16;
  return kAttentionRows * group * (keys + padded_dim) + kBlockTokens * padded_dim;
}

uint16_t ToBfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float FromBfloat16(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

FlushDenormals::FlushDenormals() : saved_(_mm_getcsr()) {
  constexpr unsigned kFlushToZeroAndDenormalsAreZero = 0x8040;
  _mm_setcsr(saved_ | kFlushToZeroAndDenormalsAreZero);
}

FlushDenormals::~FlushDenormals() { _mm_setcsr(saved_); }

}  // namespace reprise
