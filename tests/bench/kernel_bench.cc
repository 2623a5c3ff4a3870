// kernel_bench [REPEATS [MODEL.gguf]]: floors of this machine, then how far the
// matrix products and whole models are from them, in the same run.
//
// Every figure is the median (and best) of interleaved repeats; other processes
// use the cores meanwhile, so ratios and bests are what to compare.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "core/model/cpu_runner.h"
#include "tests/bench/floors.h"
#include "tests/bench/model_sizes.h"
#include "tests/bench/random_linear.h"
#include "tests/bench/random_model.h"

namespace reprise::bench {
namespace {

constexpr int kThreads[] = {1, 2};

struct Machine {
  int repeats;
  const Kernels* kernels;
  const BandwidthProbe& bandwidth;
  std::vector<Peak> peaks;

  double PeakOf(int index, int threads) const {
    return std::max(peaks[index].flops, peaks[0].flops) * threads;
  }
};

struct Timing {
  double median, best;
};

Timing TimeWithInput(const Machine& machine, const ProductCase& c, ThreadPool& pool) {
  ProductTimes times = TimeProduct(*machine.kernels, c, machine.repeats, pool);
  std::vector<double>& seconds = times.multiply;
  for (size_t i = 0; i < seconds.size(); ++i) seconds[i] += times.prepare[i];
  return {Median(seconds), *std::min_element(seconds.begin(), seconds.end())};
}

void BenchDecodeProducts(const Machine& machine) {
  std::printf("\nproduct of one row, K=1024, 192 MB of weights: time / (bytes / bandwidth)\n");
  for (const int threads : kThreads) {
    ThreadPool pool(threads, [] {});
    for (const FormatCase& format : kFormats) {
      const int64_t depth = 1024;
      const int64_t features =
          (int64_t{192} << 20) / static_cast<int64_t>(PanelBytes(format.format, depth)) * 32;
      const Linear linear = RandomLinear(format, features, depth, pool);
      std::vector<double> ratios, seconds;
      for (int i = 0; i < machine.repeats; ++i) {
        const double floor =
            static_cast<double>(linear.parts()[0].bytes()) / machine.bandwidth.Measure(pool);
        const Machine once{1, machine.kernels, machine.bandwidth, {}};
        seconds.push_back(TimeWithInput(once, {linear, 1}, pool).best);
        ratios.push_back(seconds.back() / floor);
      }
      std::printf("  %-5s threads=%d rows=1  %7.2f ms  ratio %.2f (best %.2f)\n",
                  WeightFormatName(format.format), threads, Median(seconds) * 1e3, Median(ratios),
                  *std::min_element(ratios.begin(), ratios.end()));
    }
  }
}

void BenchPrefillProducts(const Machine& machine) {
  std::printf("\nproduct of 544 rows, input preparation included: GFLOP/s, fraction of peak\n");
  const int64_t shapes[][2] = {{4096, 1024}, {1024, 4096}, {3072, 576}, {576, 1536}};
  for (const int threads : kThreads) {
    ThreadPool pool(threads, [] {});
    for (const FormatCase& format : kFormats) {
      std::printf("  %-5s threads=%d rows=544", WeightFormatName(format.format), threads);
      for (const auto& [features, depth] : shapes) {
        if (format.storage == StorageType::kQ4_K && depth % 256 != 0) continue;
        const Linear linear = RandomLinear(format, features, depth, pool);
        const Timing timing = TimeWithInput(machine, {linear, 544}, pool);
        const double flops = 2.0 * 544 * static_cast<double>(features * depth);
        std::printf("  %ldx%ld %.0f (best %.0f, %.2f)", static_cast<long>(features),
                    static_cast<long>(depth), flops / timing.median * 1e-9,
                    flops / timing.best * 1e-9,
                    flops / timing.best / machine.PeakOf(format.peak, threads));
      }
      std::printf("\n");
    }
  }
}

struct ModelCase {
  const char* name;
  const LoadedModel* model;
  WeightChoice choice;
  int peak;
};

// Seconds of a step that feeds `count` tokens from `start`.
double TimeStep(ModelRunner& runner, int32_t start, size_t count) {
  std::vector<TokenId> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<TokenId>((i * 7919) % 40000);
  std::vector<BlockId> table(runner.context_length() < 1024 ? 32 : 64);
  std::iota(table.begin(), table.end(), 0);
  StepSequence s;
  s.tokens = tokens;
  s.start_position = start;
  s.block_table = table;
  s.sample = true;
  const double begin = Seconds();
  const auto result = runner.Step({{s}});
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
    std::exit(1);
  }
  return Seconds() - begin;
}

void BenchPrefill(const Machine& machine, const ModelCase& c, ModelRunner& runner, int threads) {
  const ModelConfig& config = c.model->config;
  const double elements = CountWeights(*c.model, c.choice).layer_elements;
  for (const int tokens : {544, 1000}) {
    std::vector<double> seconds;
    for (int i = 0; i < std::max(3, machine.repeats / 3); ++i) {
      seconds.push_back(TimeStep(runner, 0, tokens));
    }
    const double best = *std::min_element(seconds.begin(), seconds.end());
    const double attention = 2.0 * config.num_layers * config.num_heads * config.head_dim *
                             static_cast<double>(tokens) * tokens;
    const double flops = 2 * elements * tokens + attention;
    std::printf(
        "  %s threads=%d batch=1 prompt=%d  prefill %.0f ms (best %.0f), %.0f tokens/s, "
        "best %.0f GFLOP/s, %.2f of peak\n",
        runner.numerics_id().c_str(), threads, tokens, Median(seconds) * 1e3, best * 1e3,
        tokens / Median(seconds), flops / best * 1e-9,
        flops / best / machine.PeakOf(c.peak, threads));
  }
}

void BenchDecode(const Machine& machine, const ModelCase& c, ModelRunner& runner, int threads) {
  ThreadPool pool(threads, [] {});
  const double bytes = CountWeights(*c.model, c.choice).bytes;
  TimeStep(runner, 0, 512);
  constexpr int kTokens = 8;  // between two probes
  const double kv = 512.0 / kBlockTokens * static_cast<double>(runner.block_bytes());
  std::vector<double> ratios, times;
  for (int i = 0; i < machine.repeats; ++i) {
    const double floor = (bytes + kv) / machine.bandwidth.Measure(pool);
    double seconds = 0;
    for (int token = 0; token < kTokens; ++token) seconds += TimeStep(runner, 512 + token, 1);
    times.push_back(seconds / kTokens);
    ratios.push_back(times.back() / floor);
  }
  std::printf(
      "  %s threads=%d batch=1 context=512  decode %.2f ms/token (best %.2f), "
      "%.0f MB, ratio to bandwidth %.2f (best %.2f)\n",
      runner.numerics_id().c_str(), threads, Median(times) * 1e3,
      *std::min_element(times.begin(), times.end()) * 1e3, (bytes + kv) * 1e-6, Median(ratios),
      *std::min_element(ratios.begin(), ratios.end()));
}

void BenchModel(const Machine& machine, const ModelCase& c) {
  std::printf("\n%s\n", c.name);
  for (const int threads : kThreads) {
    CpuRunnerOptions options;
    options.num_threads = threads;
    options.weights = c.choice;
    options.kv_pool_bytes = int64_t{256} << 20;
    const double start = Seconds();
    const auto runner = CreateCpuRunner(*c.model, options);
    if (!runner.ok()) {
      std::fprintf(stderr, "%s\n", runner.status().ToString().c_str());
      std::exit(1);
    }
    std::printf("  packed in %.2f s, threads=%d\n", Seconds() - start, threads);
    BenchDecode(machine, c, **runner, threads);
    BenchPrefill(machine, c, **runner, threads);
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  const BandwidthProbe bandwidth;
  const Machine machine{argc > 1 ? std::max(1, std::atoi(argv[1])) : 9, SelectKernels(""),
                        bandwidth, MeasurePeaks(200)};
  const std::string path = argc > 2 ? argv[2] : "models/SmolLM2-135M-Instruct.Q4_1.gguf";
  std::printf("instruction set %s, %d repeats, median (best)\n", machine.kernels->instruction_set,
              machine.repeats);
  for (const Peak& peak : machine.peaks) {
    std::printf("peak of one core on registers, %s: %.0f GFLOP/s\n", peak.name.c_str(),
                peak.flops * 1e-9);
  }
  for (const int threads : kThreads) {
    ThreadPool pool(threads, [] {});
    std::vector<double> rates;
    for (int i = 0; i < machine.repeats; ++i) rates.push_back(machine.bandwidth.Measure(pool));
    std::printf("read bandwidth, threads=%d: %.1f GB/s (best %.1f)\n", threads,
                Median(rates) * 1e-9, *std::max_element(rates.begin(), rates.end()) * 1e-9);
  }
  BenchDecodeProducts(machine);
  BenchPrefillProducts(machine);
  const auto smol = LoadModel(path);
  if (!smol.ok()) {
    std::fprintf(stderr, "%s\n", smol.status().ToString().c_str());
    return 1;
  }
  BenchModel(machine, {"SmolLM2 as stored", &*smol, WeightChoice::kAsStored, 2});
  BenchModel(machine, {"SmolLM2 bf16", &*smol, WeightChoice::kBf16, 1});
  const LoadedModel gpt2 = RandomGpt2Medium();
  BenchModel(machine, {"DialoGPT-medium shape, random, fp32", &gpt2, WeightChoice::kFp32, 0});
  BenchModel(machine, {"DialoGPT-medium shape, random, bf16", &gpt2, WeightChoice::kBf16, 1});
  BenchModel(machine, {"DialoGPT-medium shape, random, int8", &gpt2, WeightChoice::kInt8, 2});
  return 0;
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) { return reprise::bench::Main(argc, argv); }
