#include "client/load/statistics.h"

#include <algorithm>
#include <cmath>

namespace reprise::client::load {

double Quantile(const std::vector<double>& sorted, double quantile) {
  const double at = quantile * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = at - static_cast<double>(below);
  if (part == 0 || sorted[above] == sorted[below]) return sorted[below];
  return sorted[below] + (sorted[above] - sorted[below]) * part;
}

std::optional<Distribution> Describe(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  Distribution d;
  d.count = static_cast<int64_t>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  d.mean = sum / static_cast<double>(d.count);
  double squares = 0;
  for (const double value : values) squares += (value - d.mean) * (value - d.mean);
  d.stddev = std::sqrt(squares / static_cast<double>(d.count));
  d.min = values.front();
  d.p50 = Quantile(values, 0.5);
  d.p75 = Quantile(values, 0.75);
  d.p90 = Quantile(values, 0.9);
  d.p95 = Quantile(values, 0.95);
  d.p99 = Quantile(values, 0.99);
  d.p999 = Quantile(values, 0.999);
  d.max = values.back();
  return d;
}

std::vector<std::pair<std::string, double>> Statistics(const Distribution& d) {
  return {{"mean", d.mean}, {"stddev", d.stddev}, {"min", d.min}, {"p50", d.p50},   {"p75", d.p75},
          {"p90", d.p90},   {"p95", d.p95},       {"p99", d.p99}, {"p999", d.p999}, {"max", d.max}};
}

}  // namespace reprise::client::load
