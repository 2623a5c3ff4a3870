// Measures what the machine itself can do, the bounds that figures of the engine
// and of its peers stand beside, and prints one line of JSON:
//   {"threads", "read_gb_per_s", "fp32_gflops", "bf16_gflops", "int8_gops"}
//
//   machine_floor THREADS
//
// Rates are the best of many short rounds, which a busy machine cannot all
// spoil, over all threads together: reading memory once, and multiply-adds on
// registers only. A kind of arithmetic that
// the CPU has no instruction for counts as the next wider one it has.
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace {

constexpr int kRounds = 40;
constexpr int kChains = 24;  // independent accumulators: more than latency times issue width
constexpr int64_t kSteps = 600'000;
constexpr size_t kBufferWords = size_t{64} << 20;  // 512 MiB, beyond any cache

volatile float float_sink;
volatile uint64_t integer_sink;

// Each Burn… runs kSteps * chains instructions and returns its operations. The
// chains start apart, so that none is computed for another, and stay in
// registers: a barrier on an element of the array would send each to the stack,
// and the stores would be what is measured.
__attribute__((target("avx2,fma"))) double BurnAvx2() {
  constexpr int kNarrowChains = 12;  // of 16 registers
  __m256 sum[kNarrowChains];
  for (int i = 0; i < kNarrowChains; ++i) sum[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
  for (int64_t step = 0; step < kSteps; ++step) {
    for (__m256& s : sum) s = _mm256_fmadd_ps(a, b, s);
  }
  for (const __m256& s : sum) float_sink = s[0];
  return 2.0 * 8 * kNarrowChains * kSteps;
}

__attribute__((target("avx512f"))) double BurnAvx512() {
  __m512 sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
  for (int64_t step = 0; step < kSteps; ++step) {
    for (__m512& s : sum) s = _mm512_fmadd_ps(a, b, s);
  }
  for (const __m512& s : sum) float_sink = s[0];
  return 2.0 * 16 * kChains * kSteps;
}

__attribute__((target("avx512f,avx512bf16"))) double BurnBf16() {
  __m512 sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f));
  for (int64_t step = 0; step < kSteps; ++step) {
    for (__m512& s : sum) s = _mm512_dpbf16_ps(s, a, a);
  }
  for (const __m512& s : sum) float_sink = s[0];
  return 2.0 * 32 * kChains * kSteps;
}

__attribute__((target("avx512f,avx512vnni"))) double BurnInt8() {
  __m512i sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_epi32(i);
  const __m512i a = _mm512_set1_epi8(3);
  for (int64_t step = 0; step < kSteps; ++step) {
    for (__m512i& s : sum) {
      __m512i chain = s;  // GCC's intrinsic copies its operand; the instruction does not
      asm("vpdpbusd %1, %1, %0" : "+v"(chain) : "v"(a));
      s = chain;
    }
  }
  for (const __m512i& s : sum) integer_sink = s[0];
  return 2.0 * 64 * kChains * kSteps;
}

__attribute__((target("avx2"))) void Read(const uint64_t* words, size_t count) {
  uint64_t sum[16] = {};
  for (size_t i = 0; i < count; i += 16) {
    for (int lane = 0; lane < 16; ++lane) sum[lane] += words[i + lane];
  }
  for (const uint64_t value : sum) integer_sink = value;
}

// The best rate, in units per nanosecond, of `work(thread)` on all threads at once.
double BestRate(int threads, const std::function<double(int)>& work) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> done(threads);
    std::vector<std::thread> others;
    const absl::Time start = absl::Now();
    for (int t = 1; t < threads; ++t) others.emplace_back([&, t] { done[t] = work(t); });
    done[0] = work(0);
    for (std::thread& other : others) other.join();
    const double nanoseconds = absl::ToDoubleNanoseconds(absl::Now() - start);
    double total = 0;
    for (const double units : done) total += units;
    best = std::max(best, total / nanoseconds);
  }
  return best;
}

double ReadRate(int threads) {
  std::vector<uint64_t> buffer(kBufferWords, 1);
  const size_t share = kBufferWords / threads / 16 * 16;
  return BestRate(threads, [&](int thread) {
    Read(buffer.data() + thread * share, share);
    return static_cast<double>(share * sizeof(uint64_t));
  });
}

double BurnRate(int threads, double (*burn)()) {
  return BestRate(threads, [burn](int) { return burn(); });
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc == 2 ? std::atoi(argv[1]) : 0;
  if (threads < 1 || threads > 256 || !__builtin_cpu_supports("fma")) {
    std::cerr << "usage: machine_floor THREADS (on a CPU with AVX2 and FMA)\n";
    return 2;
  }
  const bool wide = __builtin_cpu_supports("avx512f");
  const double fp32 = BurnRate(threads, wide ? BurnAvx512 : BurnAvx2);
  const double bf16 = __builtin_cpu_supports("avx512bf16") ? BurnRate(threads, BurnBf16) : fp32;
  const double int8 = __builtin_cpu_supports("avx512vnni") ? BurnRate(threads, BurnInt8) : fp32;
  std::cout << absl::StrFormat(
      "{\"threads\":%d,\"read_gb_per_s\":%.1f,\"fp32_gflops\":%.1f,\"bf16_gflops\":%.1f,"
      "\"int8_gops\":%.1f}\n",
      threads, ReadRate(threads), fp32, bf16, int8);
  return 0;
}
