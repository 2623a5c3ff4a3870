#include "client/report/run_figures.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "client/report/run_values.h"
#include "client/report/sections.h"

namespace reprise::client {
namespace {

constexpr size_t kMedianBins = 16;
constexpr size_t kMaxNumberRows = 120;  // of a table below a chart
constexpr double kMaxSeconds = 1e6;

bool In(const RequestRecord& record, Subset subset) {
  if (!record.measured || !record.completed()) return false;
  return subset == Subset::kAll || (subset == Subset::kWarm) == record.warm();
}

// "cold: 12 requests, p50 3 ms, p99 9 ms; warm: …", from a table of LatencyNumbers.
std::string InWords(const std::string& what, const HtmlTable& numbers) {
  std::string words = what;
  for (const auto& row : numbers.rows) {
    absl::StrAppend(&words, &row == &numbers.rows.front() ? ": " : "; ", row[0], ": ", row[1],
                    " values, p50 ", row[3], " ms, p99 ", row[6], " ms");
  }
  return words;
}

Figure ColdAndWarm(const LoadRun& run, const char* key, std::vector<Sample> samples) {
  Figure figure;
  figure.key = key;
  figure.cumulative = true;
  figure.numbers = LatencyNumbers(run, key);
  const Labels labels{.x = "ms", .unit = "ms"};
  figure.json = DistributionChart(labels, std::move(samples));
  return figure;
}

std::vector<double> TimelineValues(const std::vector<JsonValue>& seconds, const char* key) {
  std::vector<double> values;
  values.reserve(seconds.size());
  for (const JsonValue& second : seconds) values.push_back(NumberIn(second, {key}));
  return values;
}

std::vector<double> Seconds(size_t count) {
  std::vector<double> seconds(count);
  std::iota(seconds.begin(), seconds.end(), 0.0);
  return seconds;
}

// Every n-th second of a timeline, so that there are not too many rows.
HtmlTable TimelineNumbers(const std::vector<double>& x, const std::vector<Points>& series) {
  HtmlTable table{"", {"second"}, {}, ""};
  for (const Points& points : series) table.head.push_back(points.name);
  const size_t stride = x.size() / kMaxNumberRows + 1;
  if (stride > 1) table.note = absl::StrCat("Every ", stride, " seconds.");
  for (size_t i = 0; i < x.size(); i += stride) {
    std::vector<std::string> row{Digits(x[i])};
    for (const Points& points : series) row.push_back(Digits(points.y[i]));
    table.rows.push_back(row);
  }
  return table;
}

struct TimelineText {
  const char *key, *title, *formula, *y, *unit;
  bool stack;
};

Figure OverTime(const TimelineText& text, const std::vector<double>& x,
                const std::vector<Points>& series) {
  Figure figure;
  figure.key = text.key;
  figure.title = text.title;
  figure.formula = text.formula;
  figure.alternative =
      absl::StrCat(text.title, ", ", x.size(), " seconds; the table has the numbers");
  const Labels labels{.x = "seconds since the start",
                      .y = text.y,
                      .unit = text.unit,
                      .x_unit = "s",
                      .stack = text.stack,
                      .sync = "time"};
  figure.json = LinesChart(labels, x, series);
  figure.numbers = TimelineNumbers(x, series);
  return figure;
}

Figure FromTimeline(const LoadRun& run, const TimelineText& text, std::vector<Points> series,
                    const std::vector<const char*>& keys) {
  std::vector<JsonValue> seconds = ListIn(run.run, {"summary", "timeline"});
  if (seconds.size() > kMaxSeconds) seconds.resize(static_cast<size_t>(kMaxSeconds), seconds[0]);
  for (size_t i = 0; i < series.size(); ++i) series[i].y = TimelineValues(seconds, keys[i]);
  return OverTime(text, Seconds(seconds.size()), series);
}

HtmlTable MedianNumbers(const Points& line, const char* x, const char* y) {
  HtmlTable table{"", {x, y}, {}, "Medians of bins of equally many requests."};
  for (size_t i = 0; i < line.x.size(); ++i) {
    table.rows.push_back({Digits(line.x[i]), Digits(line.y[i])});
  }
  return table;
}

}  // namespace

std::vector<double> TtftValues(const LoadRun& run, Subset subset) {
  std::vector<double> values;
  for (const RequestRecord& record : run.requests) {
    if (In(record, subset) && record.client_ttft_ms) values.push_back(*record.client_ttft_ms);
  }
  return values;
}

std::vector<double> GapValues(const LoadRun& run, Subset subset) {
  std::vector<double> values;
  for (const RequestRecord& record : run.requests) {
    if (!In(record, subset)) continue;
    values.insert(values.end(), record.inter_chunk_ms.begin(), record.inter_chunk_ms.end());
  }
  return values;
}

Figure TtftFigure(const LoadRun& run) {
  Figure figure = ColdAndWarm(run, "client_ttft",
                              {{"cold", "cold", TtftValues(run, Subset::kCold)},
                               {"warm", "warm", TtftValues(run, Subset::kWarm)}});
  figure.title = "Time to first token, cold and warm";
  figure.formula =
      "client: first token − sent. Warm: some of the prompt was reused. Dotted: medians";
  figure.alternative = InWords(figure.title, figure.numbers);
  return figure;
}

Figure InterTokenFigure(const LoadRun& run) {
  Figure figure = ColdAndWarm(run, "client_itl",
                              {{"cold", "cold", GapValues(run, Subset::kCold)},
                               {"warm", "warm", GapValues(run, Subset::kWarm)}});
  figure.title = "Inter-token latency, cold and warm";
  figure.formula = "client: gaps between chunks with tokens. Dotted: medians";
  figure.alternative = InWords(figure.title, figure.numbers);
  return figure;
}

Figure DepthFigure(const LoadRun& run) {
  Points points{"request", "warm", {}, {}};
  for (const RequestRecord& r : run.requests) {
    if (!In(r, Subset::kWarm) || !r.predicted_cold_prefill_ms || !r.server_prefill_ms) continue;
    points.x.push_back(static_cast<double>(*r.cached_tokens));
    points.y.push_back(*r.predicted_cold_prefill_ms - r.server_load_ms.value_or(0) -
                       *r.server_prefill_ms);
  }
  Figure figure;
  figure.key = "depth";
  figure.title = "Reuse depth and time to first token saved";
  figure.formula = "saved = predicted cold prefill − (load + prefill), as the server reports them";
  const Points line = MedianLine(points, kMedianBins);
  figure.numbers = MedianNumbers(line, "reused tokens", "saved ms");
  figure.alternative =
      absl::StrCat(figure.title, ": ", points.x.size(), " warm requests; the table has medians");
  const Labels labels{.x = "reused prompt tokens", .y = "ms saved", .unit = "ms"};
  figure.json = ScatterChart(labels, {points, line});
  return figure;
}

Figure PredictionFigure(const LoadRun& run) {
  Points cold{"cold", "cold", {}, {}}, warm{"warm", "warm", {}, {}};
  double least = std::numeric_limits<double>::infinity(), greatest = 0;
  for (const RequestRecord& r : run.requests) {
    if (!In(r, Subset::kAll) || !r.predicted_total_ms || !r.server_prefill_ms) continue;
    const double actual = r.server_load_ms.value_or(0) + *r.server_prefill_ms;
    if (*r.predicted_total_ms <= 0 || actual <= 0) continue;
    Points& points = r.warm() ? warm : cold;
    points.x.push_back(*r.predicted_total_ms);
    points.y.push_back(actual);
    least = std::min({least, actual, *r.predicted_total_ms});
    greatest = std::max({greatest, actual, *r.predicted_total_ms});
  }
  Figure figure;
  figure.key = "prediction";
  figure.title = "Predicted and actual";
  figure.formula =
      "actual = load + prefill, as the server reports them; on the dotted line it is as predicted";
  figure.alternative = absl::StrCat(figure.title, ": ", cold.x.size(), " cold and ", warm.x.size(),
                                    " warm requests");
  figure.numbers = LatencyNumbers(run, "prediction_error");
  const Labels labels{
      .x = "predicted ms", .y = "actual ms", .unit = "ms", .x_unit = "ms", .log = true};
  if (!cold.x.empty() || !warm.x.empty()) {
    figure.json = ScatterChart(
        labels,
        {cold, warm, {"as predicted", "reference", {least, greatest}, {least, greatest}, true}});
  }
  return figure;
}

Figure LoadFigure(const LoadRun& run) {
  return FromTimeline(run,
                      {"load", "Load over time", "requests of each second; in flight at its end",
                       "requests", "", false},
                      {{"scheduled", "reference", {}, {}},
                       {"completed", "first", {}, {}},
                       {"in flight", "flight", {}, {}},
                       {"failed", "failed", {}, {}}},
                      {"scheduled_count", "completed_count", "in_flight", "failed_count"});
}

Figure LatencyFigure(const LoadRun& run) {
  return FromTimeline(
      run,
      {"latency", "Time to first token over time",
       "client: first token − sent, of requests that ended in that second", "ms", "ms", false},
      {{"p50", "p50", {}, {}}, {"p99", "p99", {}, {}}},
      {"client_ttft_p50_ms", "client_ttft_p99_ms"});
}

Figure SourceFigure(const LoadRun& run) {
  std::vector<Points> series{{"computed", "computed", {}, {}},
                             {"disk", "disk", {}, {}},
                             {"host", "host", {}, {}},
                             {"device", "device", {}, {}}};
  // What says that it ended long after the run is left out, or it alone would fill the page.
  const auto run_seconds = static_cast<double>(ListIn(run.run, {"summary", "timeline"}).size());
  size_t seconds = 0;
  for (const RequestRecord& r : run.requests) {
    const double end = r.finished_seconds.value_or(-1);
    if (!r.completed() || end < 0 || end > std::min(run_seconds, kMaxSeconds)) continue;
    const auto second = static_cast<size_t>(end);
    seconds = std::max(seconds, second + 1);
    const std::optional<int64_t>* counts[] = {&r.computed_tokens, &r.disk_tokens, &r.host_tokens,
                                              &r.device_tokens};
    for (size_t i = 0; i < series.size(); ++i) {
      if (series[i].y.size() < seconds) series[i].y.resize(seconds, 0.0);
      series[i].y[second] += static_cast<double>(counts[i]->value_or(0));
    }
  }
  std::erase_if(series, [](const Points& points) {
    return std::all_of(points.y.begin(), points.y.end(), [](double y) { return y == 0; });
  });
  const TimelineText text{"source",
                          "Prompt tokens by source over time",
                          "of requests that completed in that second: computed, or the tier that "
                          "held them",
                          "tokens",
                          "",
                          true};
  return OverTime(text, Seconds(series.empty() ? 0 : seconds), series);
}

}  // namespace reprise::client
