// Floors of this machine, measured: what no kernel can beat.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "core/model/packed_matrix.h"
#include "core/model/thread_pool.h"

namespace reprise::bench {

double Seconds();  // monotonic

double Median(std::vector<double> values);

// Bytes per second of reading memory that no cache holds, by all threads of a pool.
class BandwidthProbe {
 public:
  BandwidthProbe();
  double Measure(ThreadPool& pool) const;

 private:
  AlignedArray<double> buffer_;  // allocated as weights are
};

struct Peak {
  std::string name;
  double flops = 0;  // per second and core; 0 where the CPU lacks the instruction
};

// The best of `repeats` runs of a loop on registers: "fp32", "bf16", "int8".
std::vector<Peak> MeasurePeaks(int repeats);

}  // namespace reprise::bench
