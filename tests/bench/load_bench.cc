// Measures how long a model takes from its files in the page cache to a runner that is
// ready to step, in process, and what memory that takes, as one line of JSON:
//   {"model", "dtype", "threads", "repeats", "samples_s", "load_s", "read_s", "pack_s",
//    "peak_rss_bytes", "rss_bytes"}
//
//   load_bench MODEL DTYPE THREADS REPEATS
//
// A load is LoadModel (read_s: mapping, checking and hashing) and CreateCpuRunner (pack_s)
// with a small KV pool. One unmeasured load fills the page cache. rss_bytes is what stays
// once the LoadedModel is gone, peak_rss_bytes the most of the process.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "core/model/cpu_runner.h"
#include "core/model/load_model.h"
#include "tests/bench/dtype_names.h"

namespace reprise::bench {
namespace {

struct Load {
  double read_s, pack_s;
  int64_t rss_bytes;
};

// Bytes of a line of /proc/self/status, which gives kB.
int64_t StatusBytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string name;
  int64_t kilobytes = 0;
  while (status >> name) {
    if (name == key && status >> kilobytes) return kilobytes * 1024;
    status.ignore(1 << 12, '\n');
  }
  return 0;
}

Load LoadOnce(const std::string& path, const CpuRunnerOptions& options) {
  const absl::Time start = absl::Now();
  auto model = LoadModel(path);
  if (!model.ok()) Fail("load_bench", model.status().ToString());
  const absl::Time read = absl::Now();
  const auto runner = CreateCpuRunner(*model, options);
  if (!runner.ok()) Fail("load_bench", runner.status().ToString());
  const absl::Time packed = absl::Now();
  *model = LoadedModel();
  return {absl::ToDoubleSeconds(read - start), absl::ToDoubleSeconds(packed - read),
          StatusBytes("VmRSS:")};
}

template <typename Field>
double MedianOf(const std::vector<Load>& loads, Field field) {
  std::vector<double> values;
  for (const Load& load : loads) values.push_back(field(load));
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int Main(int argc, char** argv) {
  int threads = 0, repeats = 0;
  if (argc != 5 || !absl::SimpleAtoi(argv[3], &threads) || !absl::SimpleAtoi(argv[4], &repeats) ||
      threads < 1 || repeats < 1) {
    std::cerr << "usage: load_bench MODEL DTYPE THREADS REPEATS\n";
    return 2;
  }
  CpuRunnerOptions options;
  options.weights = ParseName("load_bench", kWeightNames, argv[2]);
  options.num_threads = threads;
  options.kv_pool_bytes = int64_t{16} << 20;
  LoadOnce(argv[1], options);
  std::vector<Load> loads;
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    loads.push_back(LoadOnce(argv[1], options));
    seconds.push_back(loads.back().read_s + loads.back().pack_s);
  }
  std::cout << absl::StrFormat(
      "{\"model\":\"%s\",\"dtype\":\"%s\",\"threads\":%d,\"repeats\":%d,\"samples_s\":[%s],"
      "\"load_s\":%.3f,\"read_s\":%.3f,\"pack_s\":%.3f,\"peak_rss_bytes\":%d,\"rss_bytes\":%d}\n",
      argv[1], argv[2], threads, repeats, absl::StrJoin(seconds, ","),
      MedianOf(loads, [](const Load& l) { return l.read_s + l.pack_s; }),
      MedianOf(loads, [](const Load& l) { return l.read_s; }),
      MedianOf(loads, [](const Load& l) { return l.pack_s; }), StatusBytes("VmHWM:"),
      loads.back().rss_bytes);
  return 0;
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) { return reprise::bench::Main(argc, argv); }
