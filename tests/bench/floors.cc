#include "tests/bench/floors.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>

namespace reprise::bench {
namespace {

constexpr size_t kProbeBytes = size_t{512} << 20;
constexpr int kChains = 24;    // different ones, enough to hide every latency here
constexpr int kSteps = 10000;  // short, so that some runs are not interrupted

#define TARGET_512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,avx512vnni")))

// Keeps a result alive.
template <typename T>
void Keep(const T& value) {
  asm volatile("" : : "m"(value) : "memory");
}

TARGET_512 void SpinFp32() {
  __m512 sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512 x = _mm512_set1_ps(1.0f), y = _mm512_set1_ps(0.5f);
  for (int step = 0; step < kSteps; ++step) {
    asm volatile("" : "+v"(x));  // keeps the loop
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) sum[i] = _mm512_fmadd_ps(sum[i], x, y);
  }
  Keep(sum);
}

TARGET_512 void SpinBf16() {
  __m512 sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80);
  for (int step = 0; step < kSteps; ++step) {
    asm volatile("" : "+v"(x));  // keeps the loop
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) sum[i] = _mm512_dpbf16_ps(sum[i], x, x);
  }
  Keep(sum);
}

// Not by its intrinsic, whose sums GCC 12 copies each time.
TARGET_512 void SpinInt8() {
  __m512i sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_epi32(i);
  __m512i x = _mm512_set1_epi32(0x01010101);
  for (int step = 0; step < kSteps; ++step) {
    asm volatile("" : "+v"(x));  // keeps the loop
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) {
      __m512i chain = sum[i];
      asm("vpdpbusd %1, %1, %0" : "+v"(chain) : "v"(x));
      sum[i] = chain;
    }
  }
  Keep(sum);
}

__attribute__((target("avx2,fma"))) void SpinAvx2() {
  __m256 sum[12];
  for (int i = 0; i < 12; ++i) sum[i] = _mm256_set1_ps(static_cast<float>(i));
  __m256 x = _mm256_set1_ps(1.0f), y = _mm256_set1_ps(0.5f);
  for (int step = 0; step < kSteps; ++step) {
    asm volatile("" : "+x"(x));  // keeps the loop
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sum[i] = _mm256_fmadd_ps(sum[i], x, y);
  }
  Keep(sum);
}

double BestSeconds(int repeats, void (*spin)()) {
  double best = 1e9;
  for (int i = 0; i < repeats; ++i) {
    const double start = Seconds();
    spin();
    best = std::min(best, Seconds() - start);
  }
  return best;
}

}  // namespace

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[values.size() / 2] + values[(values.size() - 1) / 2]) / 2;
}

BandwidthProbe::BandwidthProbe() : buffer_(MakeAligned<double>(kProbeBytes / sizeof(double))) {
  // Pages that nobody has written are all the same one.
  std::fill_n(buffer_.get(), kProbeBytes / sizeof(double), 1.0);
}

__attribute__((target_clones("avx512f", "avx2", "default"))) static double SumOf(const double* from,
                                                                                 size_t count) {
  double sums[64] = {};
  for (size_t i = 0; i < count; i += 64) {
    for (size_t lane = 0; lane < 64; ++lane) sums[lane] += from[i + lane];
  }
  double sum = 0;
  for (const double lane : sums) sum += lane;
  return sum;
}

double BandwidthProbe::Measure(ThreadPool& pool) const {
  constexpr size_t kPart = size_t{1} << 17;  // 1 MiB of doubles
  const size_t parts = kProbeBytes / sizeof(double) / kPart;
  const double start = Seconds();
  pool.ParallelFor(parts, [&](size_t part, int) { Keep(SumOf(&buffer_[part * kPart], kPart)); });
  return static_cast<double>(kProbeBytes) / (Seconds() - start);
}

std::vector<Peak> MeasurePeaks(int repeats) {
  const bool wide = __builtin_cpu_supports("avx512f");
  const bool dots = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  const double steps = kSteps;
  std::vector<Peak> peaks = {{"fp32", 0}, {"bf16", 0}, {"int8", 0}};
  if (wide) {
    peaks[0].flops = steps * kChains * 32 / BestSeconds(repeats, SpinFp32);
  } else if (__builtin_cpu_supports("avx2")) {
    peaks[0].flops = steps * 12 * 16 / BestSeconds(repeats, SpinAvx2);
  }
  if (dots) {
    peaks[1].flops = steps * kChains * 64 / BestSeconds(repeats, SpinBf16);
    peaks[2].flops = steps * kChains * 128 / BestSeconds(repeats, SpinInt8);
  }
  return peaks;
}

}  // namespace reprise::bench
