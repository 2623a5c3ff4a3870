// Prints what the machine itself can do, the bounds that figures of the engine and of its
// peers stand beside, as one line of JSON:
//   {"threads", "read_gb_per_s", "fp32_gflops", "bf16_gflops", "int8_gops"}
//
//   machine_floor THREADS
//
// Rates are the best of many short rounds, which a busy machine cannot all spoil:
// reading memory by all threads together, and multiply-adds on the registers of one core
// times the threads. Arithmetic that the CPU has no instruction for counts as fp32.
#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "absl/strings/str_format.h"
#include "tests/bench/floors.h"

int main(int argc, char** argv) {
  const int threads = argc == 2 ? std::atoi(argv[1]) : 0;
  if (threads < 1 || threads > 256) {
    std::cerr << "usage: machine_floor THREADS\n";
    return 2;
  }
  constexpr int kReads = 12;
  constexpr int kSpins = 200;
  reprise::ThreadPool pool(threads, [] {});
  const reprise::bench::BandwidthProbe probe;
  double bandwidth = 0;
  for (int i = 0; i < kReads; ++i) bandwidth = std::max(bandwidth, probe.Measure(pool));
  const auto peaks = reprise::bench::MeasurePeaks(kSpins);
  const auto rate = [&](size_t kind) {
    const double flops = peaks[kind].flops > 0 ? peaks[kind].flops : peaks[0].flops;
    return flops * threads / 1e9;
  };
  std::cout << absl::StrFormat(
      "{\"threads\":%d,\"read_gb_per_s\":%.1f,\"fp32_gflops\":%.1f,\"bf16_gflops\":%.1f,"
      "\"int8_gops\":%.1f}\n",
      threads, bandwidth / 1e9, rate(0), rate(1), rate(2));
  return 0;
}
