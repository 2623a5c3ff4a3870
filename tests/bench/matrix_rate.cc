// The rate of the engine's own register-blocked products, for prefill to be held against,
// as one line of JSON:
//   {"dtype", "threads", "instruction_set", "registers", "rates": {SHAPE: {"median", "best"}}}
//
//   matrix_rate FORMAT THREADS REPEATS ROWSxFEATURESxDEPTH...
//
// Rates are in giga-operations per second of all threads; a multiply-add is two. A product reads
// rows that are prepared and weights that are packed, over and over, so both are where caches can
// hold them; there is no norm, activation or attention. "registers" is the rate of a loop that
// reads no memory at all, which no product reaches.
#include <algorithm>
#include <iostream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/bench/dtype_names.h"
#include "tests/bench/random_linear.h"

namespace reprise::bench {
namespace {

constexpr int kSpins = 200;

[[noreturn]] void Fail(absl::string_view message) { bench::Fail("matrix_rate", message); }

int ParseCount(absl::string_view text) {
  int value;
  if (!absl::SimpleAtoi(text, &value) || value < 1 || value > 1 << 20) {
    Fail(absl::StrCat("expected a count of 1 to 1048576, not ", text));
  }
  return value;
}

const FormatCase& FindFormat(absl::string_view name) {
  for (const FormatCase& format : kFormats) {
    if (name == WeightFormatName(format.format)) return format;
  }
  Fail(absl::StrCat("unknown weight format ", name));
}

std::string RateOf(const FormatCase& format, absl::string_view shape, int repeats,
                   ThreadPool& pool) {
  const std::vector<absl::string_view> sizes = absl::StrSplit(shape, 'x');
  if (sizes.size() != 3) Fail(absl::StrCat("expected ROWSxFEATURESxDEPTH, not ", shape));
  const int rows = ParseCount(sizes[0]), features = ParseCount(sizes[1]);
  const int depth = ParseCount(sizes[2]);
  if (!RowBytes(format.storage, depth).ok()) {
    Fail(absl::StrCat("depth ", depth, " is not of whole blocks of ",
                      WeightFormatName(format.format)));
  }
  const Linear linear = RandomLinear(format, features, depth, pool);
  const std::vector<double> seconds =
      TimeProduct(*SelectKernels(""), {linear, size_t(rows)}, repeats, pool).multiply;
  const double operations = 2e-9 * rows * features * depth;
  return absl::StrFormat("\"%s\":{\"median\":%.2f,\"best\":%.2f}", shape,
                         operations / Median(seconds),
                         operations / *std::min_element(seconds.begin(), seconds.end()));
}

int Main(int argc, char** argv) {
  if (argc < 5) Fail("usage: matrix_rate FORMAT THREADS REPEATS ROWSxFEATURESxDEPTH...");
  const FormatCase& format = FindFormat(argv[1]);
  const int threads = std::min(ParseCount(argv[2]), 256), repeats = ParseCount(argv[3]);
  const std::vector<Peak> peaks = MeasurePeaks(kSpins);
  ThreadPool pool(threads, [] {});
  std::vector<std::string> rates;
  for (int i = 4; i < argc; ++i) rates.push_back(RateOf(format, argv[i], repeats, pool));
  std::cout << absl::StrFormat(
      "{\"dtype\":\"%s\",\"threads\":%d,\"instruction_set\":\"%s\",\"registers\":%.1f,"
      "\"rates\":{%s}}\n",
      argv[1], threads, SelectKernels("")->instruction_set,
      std::max(peaks[format.peak].flops, peaks[0].flops) * threads * 1e-9,
      absl::StrJoin(rates, ","));
  return 0;
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) { return reprise::bench::Main(argc, argv); }
