#include "tests/bench/traces.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace reprise::bench {
namespace {

// Not the standard library's distributions, which differ between libraries.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {  // splitmix64
    uint64_t z = (state_ += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  double Unit() { return (static_cast<double>(Next() >> 11) + 0.5) / 9007199254740992.0; }
  int Within(int low, int high) { return low + static_cast<int>(Next() % (high - low + 1)); }
  double Exponential(double mean) { return -mean * std::log(Unit()); }
  double Normal() {
    return std::sqrt(-2 * std::log(Unit())) * std::cos(2 * std::numbers::pi * Unit());
  }
  double LogNormal(double median, double sigma) { return median * std::exp(sigma * Normal()); }

  // Marsaglia and Tsang 2000; below one by the power of a uniform.
  double Gamma(double shape) {
    if (shape < 1) return Gamma(shape + 1) * std::pow(Unit(), 1 / shape);
    const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
    while (true) {
      const double x = Normal(), v = std::pow(1 + c * x, 3);
      if (v > 0 && std::log(Unit()) < x * x / 2 + d - d * v + d * std::log(v)) return d * v;
    }
  }

  std::vector<TokenId> Ids(int count) {
    std::vector<TokenId> ids(std::max(count, 1));
    for (TokenId& id : ids) id = static_cast<TokenId>(Next() % 50000);
    return ids;
  }

 private:
  uint64_t state_;
};

class Zipf {
 public:
  Zipf(int count, double exponent) {
    for (int i = 1; i <= count; ++i) {
      total_ += std::pow(i, -exponent);
      sums_.push_back(total_);
    }
  }
  size_t Draw(Random& random) const {
    const double at = random.Unit() * total_;
    return std::lower_bound(sums_.begin(), sums_.end(), at) - sums_.begin();
  }

 private:
  double total_ = 0;
  std::vector<double> sums_;
};

constexpr int kMaxTurns = 40;
constexpr double kMeanTurns = 2.5;

int Turns(Random& random) {
  int turns = 1;
  while (turns < kMaxTurns && random.Unit() > 1 / kMeanTurns) ++turns;
  return turns;
}

void AddSession(double start, const std::vector<TokenId>& system, Random& random,
                const TraceOptions& options, std::vector<TraceRequest>& trace) {
  std::vector<TokenId> text = system;
  const int turns = Turns(random);
  for (int turn = 0; turn < turns; ++turn) {
    const std::vector<TokenId> asked = random.Ids(static_cast<int>(random.LogNormal(40, 1.2)));
    text.insert(text.end(), asked.begin(), asked.end());
    std::vector<TokenId> reply = random.Ids(static_cast<int>(random.LogNormal(130, 0.9)));
    if (text.size() + reply.size() > static_cast<size_t>(options.context_length)) return;
    trace.push_back({start, text, reply});
    text.insert(text.end(), reply.begin(), reply.end());
    start += random.LogNormal(60, 1.62);  // p90 at eight minutes
  }
}

}  // namespace

std::vector<TraceRequest> ChatTrace(const TraceOptions& options) {
  Random random(options.seed);
  std::vector<std::vector<TokenId>> systems;
  for (int i = 0; i < 20; ++i) systems.push_back(random.Ids(random.Within(64, 512)));
  const Zipf popularity(20, 1.0);
  std::vector<TraceRequest> trace;
  double start = 0;
  while (trace.size() < static_cast<size_t>(options.requests)) {
    start += random.Exponential(1 / options.sessions_per_second);
    AddSession(start, systems[popularity.Draw(random)], random, options, trace);
  }
  const auto earlier = [](const TraceRequest& a, const TraceRequest& b) {
    return a.seconds < b.seconds;
  };
  std::stable_sort(trace.begin(), trace.end(), earlier);
  return trace;
}

std::vector<TraceRequest> ApiTrace(const TraceOptions& options) {
  constexpr double kShape = 1.0 / 9;  // of gaps with a coefficient of variation of 3
  Random random(options.seed);
  std::vector<std::vector<TokenId>> templates;
  for (int i = 0; i < 8; ++i) templates.push_back(random.Ids(random.Within(512, 2048)));
  const Zipf popularity(8, 1.2);
  std::vector<TraceRequest> trace;
  double now = 0;
  for (int i = 0; i < options.requests; ++i) {
    now += random.Gamma(kShape) / kShape / options.calls_per_second;
    TraceRequest request{now, templates[popularity.Draw(random)], {}};
    const std::vector<TokenId> own = random.Ids(random.Within(20, 200));
    request.prompt.insert(request.prompt.end(), own.begin(), own.end());
    request.output = random.Ids(random.Within(1, 60));
    trace.push_back(std::move(request));
  }
  return trace;
}

}  // namespace reprise::bench
