#include "client/load/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace reprise::client::load {

uint64_t Random::Next() {
  uint64_t z = (state_ += 0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

double Random::Unit() { return (static_cast<double>(Next() >> 11) + 0.5) / 9007199254740992.0; }

int Random::Within(int low, int high) { return low + static_cast<int>(Next() % (high - low + 1)); }

double Random::Exponential(double mean) { return -mean * std::log(Unit()); }

double Random::Normal() {
  return std::sqrt(-2 * std::log(Unit())) * std::cos(2 * std::numbers::pi * Unit());
}

double Random::LogNormal(double median, double sigma) {
  return median * std::exp(sigma * Normal());
}

double Random::Gamma(double shape) {
  if (shape < 1) {  // by the power of a uniform
    const double above = Gamma(shape + 1);
    return above * std::pow(Unit(), 1 / shape);
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = Normal(), v = std::pow(1 + c * x, 3);
    if (v > 0 && std::log(Unit()) < x * x / 2 + d - d * v + d * std::log(v)) return d * v;
  }
}

std::vector<int32_t> Random::Ids(int count, int vocabulary_size) {
  std::vector<int32_t> ids(std::max(count, 1));
  for (int32_t& id : ids) id = static_cast<int32_t>(Next() % vocabulary_size);
  return ids;
}

Zipf::Zipf(int count, double exponent) {
  for (int i = 1; i <= count; ++i) {
    total_ += std::pow(i, -exponent);
    sums_.push_back(total_);
  }
}

size_t Zipf::Draw(Random& random) const {
  const double at = random.Unit() * total_;
  const auto found = std::lower_bound(sums_.begin(), sums_.end(), at);
  return std::min<size_t>(found - sums_.begin(), sums_.size() - 1);
}

}  // namespace reprise::client::load
