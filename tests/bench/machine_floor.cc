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
constexpr int64_t kSteps = 600'000;
constexpr size_t kBufferWords = size_t{64} << 20;  // 512 MiB, beyond any cache

volatile uint64_t integer_sink;

// One instruction on each of the accumulators of a step, in registers named
// here: a compiler left to choose may keep the accumulators in memory, and the
// stores would be what is measured.
#define ON(op, r, n) op " %%" r "13, %%" r "14, %%" r #n "\n\t"
#define ON_4(op, r, a, b, c, d) ON(op, r, a) ON(op, r, b) ON(op, r, c) ON(op, r, d)
#define ON_12(op, r) ON_4(op, r, 0, 1, 2, 3) ON_4(op, r, 4, 5, 6, 7) ON_4(op, r, 8, 9, 10, 11)
#define ON_28(op, r)          \
  ON_12(op, r)                \
  ON_4(op, r, 16, 17, 18, 19) \
  ON_4(op, r, 20, 21, 22, 23) ON_4(op, r, 24, 25, 26, 27) ON_4(op, r, 28, 29, 30, 31)
#define LOW_REGISTERS                                                                      \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm13", "xmm14"
#define HIGH_REGISTERS                                                                      \
  "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", \
      "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31"
#define CLEAR_SOURCES(...) \
  asm volatile("vpxor %%xmm13, %%xmm13, %%xmm13\n\tvpxor %%xmm14, %%xmm14, %%xmm14" ::: __VA_ARGS__)

// Each Burn… returns its operations; zeros take the time of any number.
__attribute__((target("avx2,fma"))) double BurnAvx2() {
  CLEAR_SOURCES(LOW_REGISTERS);
  for (int64_t step = 0; step < kSteps; ++step) {
    asm volatile(ON_12("vfmadd231ps", "ymm")::: LOW_REGISTERS);
  }
  return 2.0 * 8 * 12 * kSteps;
}

#define DEFINE_BURN(name, op, operations)                              \
  __attribute__((target("avx512f"))) double name() {                   \
    CLEAR_SOURCES(LOW_REGISTERS, HIGH_REGISTERS);                      \
    for (int64_t step = 0; step < kSteps; ++step) {                    \
      asm volatile(ON_28(op, "zmm")::: LOW_REGISTERS, HIGH_REGISTERS); \
    }                                                                  \
    return double{operations} * 28 * kSteps;                           \
  }
DEFINE_BURN(BurnAvx512, "vfmadd231ps", 32)
DEFINE_BURN(BurnBf16, "vdpbf16ps", 64)
DEFINE_BURN(BurnInt8, "vpdpbusd", 128)
#undef DEFINE_BURN

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
