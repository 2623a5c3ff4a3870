#include "client/report/charts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "client/load/statistics.h"

namespace reprise::client {
namespace {

constexpr size_t kSteps = 240;  // of the share below; a bin is some of them

// Past these a drawing library's arithmetic is not to be trusted.
constexpr double kLeast = 1e-6, kGreatest = 1e12;

std::string Number(double value) {
  return std::abs(value) <= kGreatest ? absl::StrFormat("%.6g", value) : "null";
}

std::string Numbers(absl::Span<const double> values) {
  return absl::StrCat(
      "[",
      absl::StrJoin(values, ",",
                    [](std::string* out, double value) { absl::StrAppend(out, Number(value)); }),
      "]");
}

std::string Head(absl::string_view kind, const Labels& labels) {
  return absl::StrCat("{\"kind\":\"", kind, "\",\"xlabel\":\"", labels.x, "\",\"ylabel\":\"",
                      labels.y, "\",\"unit\":\"", labels.unit, "\",\"xunit\":\"", labels.x_unit,
                      "\",\"log\":", labels.log ? "true" : "false",
                      ",\"stack\":", labels.stack ? "true" : "false", ",\"sync\":\"", labels.sync,
                      "\"");
}

std::string SeriesHead(absl::string_view name, absl::string_view style) {
  return absl::StrCat("{\"name\":\"", name, "\",\"style\":\"", style, "\"");
}

// From a little below the least to a little above the greatest, at least a factor of two.
std::vector<double> LogEdges(double least, double greatest) {
  double low = std::log10(least), high = std::log10(greatest);
  const double margin = std::max(0.02 * (high - low), 0.15 - (high - low) / 2);
  if (margin > 0) low -= margin, high += margin;
  std::vector<double> edges(kSteps + 1);
  for (size_t i = 0; i < edges.size(); ++i) {
    edges[i] = std::pow(
        10, low + (high - low) * static_cast<double>(i) / static_cast<double>(edges.size() - 1));
  }
  return edges;
}

// The share of ascending values at or below each edge.
std::vector<double> SharesBelow(absl::Span<const double> ascending,
                                absl::Span<const double> edges) {
  std::vector<double> shares;
  for (const double edge : edges) {
    const auto above = std::upper_bound(ascending.begin(), ascending.end(), edge);
    shares.push_back(static_cast<double>(above - ascending.begin()) /
                     static_cast<double>(ascending.size()));
  }
  return shares;
}

// Fewer and wider bins where there are few values: at least 12, at most 48.
size_t StepsPerBin(size_t values) { return values >= 400 ? 5 : values >= 100 ? 10 : 20; }

// Of each bin of `steps`, at every one of its edges, for a curve of steps.
std::vector<double> SharesInBins(absl::Span<const double> below, size_t steps) {
  std::vector<double> shares(below.size());
  for (size_t i = 0; i + 1 < below.size(); ++i) {
    const size_t begin = i / steps * steps;
    shares[i] = below[begin + steps] - below[begin];
  }
  shares.back() = 0;
  return shares;
}

// Ascending and positive.
void Prepare(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const auto positive = std::upper_bound(values.begin(), values.end(), 0.0);
  const double least = positive == values.end() ? kLeast : *positive;
  std::fill(values.begin(), positive, least);
  for (double& value : values) value = std::clamp(value, kLeast, kGreatest);
}

Points Thinned(const Points& points, bool positive_only) {
  Points kept{points.name, points.style, {}, {}, points.line};
  std::vector<size_t> chosen;
  for (size_t i = 0; i < points.x.size(); ++i) {
    const bool drawable = std::abs(points.x[i]) <= kGreatest && std::abs(points.y[i]) <= kGreatest;
    const bool positive = points.x[i] >= kLeast && points.y[i] >= kLeast;
    if (drawable && (positive || !positive_only)) chosen.push_back(i);
  }
  const size_t stride = chosen.size() / kMaxPoints + 1;
  for (size_t i = 0; i < chosen.size(); i += stride) {
    kept.x.push_back(points.x[chosen[i]]);
    kept.y.push_back(points.y[chosen[i]]);
  }
  return kept;
}

}  // namespace

std::string DistributionChart(const Labels& labels, std::vector<Sample> samples) {
  std::erase_if(samples, [](const Sample& sample) { return sample.values.empty(); });
  if (samples.empty()) return "";
  double least = std::numeric_limits<double>::infinity(), greatest = 0;
  size_t fewest = samples.front().values.size();
  for (Sample& sample : samples) {
    Prepare(sample.values);
    fewest = std::min(fewest, sample.values.size());
    least = std::min(least, sample.values.front());
    greatest = std::max(greatest, sample.values.back());
  }
  const std::vector<double> edges = LogEdges(least, greatest);
  std::vector<std::string> series;
  for (const Sample& sample : samples) {
    const std::vector<double> below = SharesBelow(sample.values, edges);
    series.push_back(absl::StrCat(SeriesHead(sample.name, sample.style),
                                  ",\"p50\":", Number(load::Quantile(sample.values, 0.5)),
                                  ",\"hist\":", Numbers(SharesInBins(below, StepsPerBin(fewest))),
                                  ",\"ecdf\":", Numbers(below), "}"));
  }
  return absl::StrCat(Head("distribution", labels), ",\"x\":", Numbers(edges), ",\"series\":[",
                      absl::StrJoin(series, ","), "]}");
}

std::string ScatterChart(const Labels& labels, const std::vector<Points>& series) {
  std::vector<std::string> parts;
  for (const Points& points : series) {
    const Points kept = Thinned(points, labels.log);
    if (kept.x.empty()) continue;
    parts.push_back(absl::StrCat(SeriesHead(kept.name, kept.style),
                                 ",\"line\":", kept.line ? "true" : "false",
                                 ",\"x\":", Numbers(kept.x), ",\"y\":", Numbers(kept.y), "}"));
  }
  if (parts.empty()) return "";
  return absl::StrCat(Head("scatter", labels), ",\"series\":[", absl::StrJoin(parts, ","), "]}");
}

std::string LinesChart(const Labels& labels, const std::vector<double>& x,
                       const std::vector<Points>& series) {
  if (x.empty()) return "";
  std::vector<std::string> parts;
  parts.reserve(series.size());
  for (const Points& points : series) {
    parts.push_back(
        absl::StrCat(SeriesHead(points.name, points.style), ",\"y\":", Numbers(points.y), "}"));
  }
  return absl::StrCat(Head("lines", labels), ",\"x\":", Numbers(x), ",\"series\":[",
                      absl::StrJoin(parts, ","), "]}");
}

Points MedianLine(const Points& points, size_t bins) {
  Points line{"median", "reference", {}, {}, true};
  std::vector<size_t> order(points.x.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&points](size_t a, size_t b) { return points.x[a] < points.x[b]; });
  bins = std::min(bins, order.size() / 5);
  line.x.reserve(bins);
  line.y.reserve(bins);
  for (size_t bin = 0; bin < bins; ++bin) {
    std::vector<double> xs, ys;
    for (size_t i = order.size() * bin / bins; i < order.size() * (bin + 1) / bins; ++i) {
      xs.push_back(points.x[order[i]]);
      ys.push_back(points.y[order[i]]);
    }
    std::sort(ys.begin(), ys.end());
    line.x.push_back(load::Quantile(xs, 0.5));
    line.y.push_back(load::Quantile(ys, 0.5));
  }
  return line;
}

}  // namespace reprise::client
