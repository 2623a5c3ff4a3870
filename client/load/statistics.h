// Figures of a list of values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace reprise::client::load {

struct Distribution {
  int64_t count = 0;
  double mean = 0, stddev = 0;  // of the population
  double min = 0, p50 = 0, p75 = 0, p90 = 0, p95 = 0, p99 = 0, p999 = 0, max = 0;
};

// Interpolates linearly between the two nearest values, as NumPy does; `sorted` ascends and is not
// empty, `quantile` is in [0, 1]. Infinity is a value like others.
double Quantile(const std::vector<double>& sorted, double quantile);

// Nothing of no values.
std::optional<Distribution> Describe(std::vector<double> values);

// Name and value of each statistic, in the order of the report: mean, stddev, min, p50, …, max.
std::vector<std::pair<std::string, double>> Statistics(const Distribution& distribution);

}  // namespace reprise::client::load
