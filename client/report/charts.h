// Charts of a report: from numbers to what charts.js draws, as JSON.
//
// Pure functions. The texts of a chart (names, labels) are fixed ones of ours; what callers or
// traces named never gets into the JSON, so nothing in it needs escaping.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace reprise::client {

inline constexpr size_t kMaxPoints = 3000;  // of a scatter chart's series: evenly many are left out

// A named set of values, or of points. `style` is a colour of style.css.
struct Sample {
  std::string name, style;
  std::vector<double> values;
};
struct Points {
  std::string name, style;
  std::vector<double> x, y;
  bool line = false;
};

struct Labels {
  std::string x, y;  // of the axes
  std::string unit;  // of the values in the legend
  std::string x_unit;
  bool log = false;    // both axes of a scatter chart
  bool stack = false;  // of lines
  std::string sync;    // charts of one name share the cursor
};

// Shares of the values in bins of equal width on a logarithmic axis, and the share below each of
// finer edges. Values of 0 or less count as the least one above 0. Empty samples are left out;
// "" when all are empty.
std::string DistributionChart(const Labels& labels, std::vector<Sample> samples);

// "" without a point. With `labels.log`, points with a coordinate of 0 or less are left out.
std::string ScatterChart(const Labels& labels, const std::vector<Points>& series);

// Lines over one ascending x, each `y` as long as it; NaN is a gap. "" when x is empty.
std::string LinesChart(const Labels& labels, const std::vector<double>& x,
                       const std::vector<Points>& series);

// Medians of y in `bins` bins of equally many points, in the order of x; a line for ScatterChart.
Points MedianLine(const Points& points, size_t bins);

}  // namespace reprise::client
