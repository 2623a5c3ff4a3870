#include "core/model/kernels.h"

#include <xmmintrin.h>

#include <algorithm>
#include <cstring>

namespace reprise {

namespace kernels_avx512bf16 {
Kernels Table(const char* name);
}
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

bool HasAvx512Bf16() {
  return HasAvx512() && __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_supports("avx512vnni");
}

bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

const Kernels* SelectKernels(const char* name) {
  static const Kernels avx512bf16 = kernels_avx512bf16::Table("avx512bf16");
  static const Kernels avx512 = kernels_avx512::Table("avx512");
  static const Kernels avx2 = kernels_avx2::Table("avx2");
  static const Kernels portable = kernels_portable::Table("portable");
  const auto wanted = [&](const Kernels& kernels) {
    return name[0] == '\0' || std::strcmp(name, kernels.instruction_set) == 0;
  };
  if (wanted(avx512bf16) && HasAvx512Bf16()) return &avx512bf16;
  if (wanted(avx512) && HasAvx512()) return &avx512;
  if (wanted(avx2) && HasAvx2()) return &avx2;
  return wanted(portable) ? &portable : nullptr;
}

size_t AttentionRows(size_t group) { return std::max<size_t>(1, kAttentionQueries / group); }

size_t AttentionScratchFloats(size_t group, size_t head_dim, int32_t last_position) {
  const auto padded = [](size_t size) {
    return (size + kAttentionPadding - 1) / kAttentionPadding * kAttentionPadding;
  };
  const size_t queries = AttentionRows(group) * group;
  return queries * (padded(head_dim) + padded(last_position + 1)) + padded(head_dim) +
         (queries + 15) / 16 * 16;
}

FlushDenormals::FlushDenormals() : saved_(_mm_getcsr()) {
  constexpr unsigned kFlushToZeroAndDenormalsAreZero = 0x8040;
  _mm_setcsr(saved_ | kFlushToZeroAndDenormalsAreZero);
}

FlushDenormals::~FlushDenormals() { _mm_setcsr(saved_); }

}  // namespace reprise
