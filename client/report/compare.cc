#include "client/report/compare.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/load/statistics.h"
#include "client/report/charts.h"
#include "client/report/run_figures.h"
#include "client/report/run_values.h"
#include "client/report/sections.h"

namespace reprise::client {
namespace {

constexpr double kNoticeable = 0.05;
constexpr double kTail = 0.025;  // on either side of a 95 % interval

struct Row {
  std::string name;
  double a, b;
  bool is_ratio;
  int better;  // 1: more is better, -1: less is, 0: neither
};

std::vector<std::string> InCells(const Row& row) {
  const auto shown = [&row](double value) { return row.is_ratio ? Percent(value) : Digits(value); };
  const double more = row.b - row.a;
  const bool noticeable = std::isfinite(more) && std::abs(more) > kNoticeable * std::abs(row.a);
  const char* verdict = "";
  if (noticeable && row.better != 0) verdict = (more > 0) == (row.better > 0) ? "better" : "worse";
  return {row.name, shown(row.a), shown(row.b), shown(more), Digits(row.b / row.a), verdict};
}

double Latency(const LoadRun& run, const char* key, const char* subset, const char* statistic) {
  return NumberIn(run.run, {"summary", "latency", key, subset, statistic});
}

void AddLatency(const LoadRun& a, const LoadRun& b, const LatencyName& name,
                std::vector<std::vector<std::string>>& rows) {
  for (const char* subset : {"all", "cold", "warm"}) {
    for (const char* statistic : {"p50", "p99"}) {
      const Row row{absl::StrCat(name.title, ", ", subset, ", ", statistic, ", ms"),
                    Latency(a, name.key, subset, statistic),
                    Latency(b, name.key, subset, statistic), false, -1};
      if (std::isfinite(row.a) || std::isfinite(row.b)) rows.push_back(InCells(row));
    }
  }
}

// Why the same turn of the same session is not the same request; "" where it is.
std::string WhyNotTheSame(const LoadRun& a, const LoadRun& b) {
  const std::initializer_list<absl::string_view> paths[] = {
      {"workload", "kind"},         {"workload", "name"},         {"workload", "file"},
      {"options", "workload_seed"}, {"options", "length_scale"},  {"options", "max_tokens"},
      {"options", "ignore_eos"},    {"server", "context_length"}, {"server", "vocabulary_size"}};
  for (const auto& path : paths) {
    const std::string in_a = TextIn(a.run, path), in_b = TextIn(b.run, path);
    if (in_a != in_b) {
      const auto shown = [](const std::string& value) { return value.empty() ? "unset" : value; };
      return absl::StrCat(*path.begin(), ".", *(path.begin() + 1), " is ", shown(in_a),
                          " in A and ", shown(in_b), " in B, so no two requests are the same");
    }
  }
  return "";
}

bool CanBePaired(const RequestRecord& r) {
  return r.measured && r.completed() && r.client_ttft_ms && r.session && r.turn;
}

Figure Both(const char* key, const char* title, std::vector<double> a, std::vector<double> b) {
  Figure figure;
  figure.key = key;
  figure.title = title;
  figure.formula = "of measured requests that completed. Dotted: medians";
  figure.cumulative = true;
  figure.alternative = absl::StrCat(title, ": A ", a.size(), " values, B ", b.size(), " values");
  const Labels labels{.x = "ms", .unit = "ms"};
  figure.json =
      DistributionChart(labels, {{"A", "first", std::move(a)}, {"B", "second", std::move(b)}});
  return figure;
}

Figure PairedFigure(const PairedTtft& paired) {
  Figure figure;
  figure.key = "paired";
  figure.title = "Time to first token, request by request";
  figure.formula = "client: first token − sent; below the dotted line B was faster";
  figure.alternative = PairedInWords(paired);
  if (paired.a_ms.empty()) return figure;
  const auto [a_least, a_most] = std::minmax_element(paired.a_ms.begin(), paired.a_ms.end());
  const auto [b_least, b_most] = std::minmax_element(paired.b_ms.begin(), paired.b_ms.end());
  const double least = std::min(*a_least, *b_least), most = std::max(*a_most, *b_most);
  const Labels labels{.x = "A, ms", .y = "B, ms", .unit = "ms", .x_unit = "ms", .log = true};
  figure.json = ScatterChart(labels, {{"request", "first", paired.a_ms, paired.b_ms},
                                      {"equal", "reference", {least, most}, {least, most}, true}});
  return figure;
}

struct OverTimeText {
  const char *key, *title, *member, *y, *unit;
};

Figure BothOverTime(const LoadRun& a, const LoadRun& b, const OverTimeText& text) {
  std::vector<Points> series{{"A", "first", {}, {}}, {"B", "second", {}, {}}};
  std::vector<double> x;
  const LoadRun* runs[] = {&a, &b};
  for (size_t i = 0; i < series.size(); ++i) {
    for (const JsonValue& second : ListIn(runs[i]->run, {"summary", "timeline"})) {
      series[i].y.push_back(NumberIn(second, {text.member}));
    }
  }
  while (x.size() < std::max(series[0].y.size(), series[1].y.size())) {
    x.push_back(static_cast<double>(x.size()));
  }
  for (Points& points : series) points.y.resize(x.size(), std::nan(""));
  Figure figure;
  figure.key = text.key;
  figure.title = text.title;
  figure.formula = "each run from its own start";
  figure.alternative = absl::StrCat(text.title, " of both runs, ", x.size(), " seconds");
  const Labels labels{.x = "seconds since the start",
                      .y = text.y,
                      .unit = text.unit,
                      .x_unit = "s",
                      .sync = "time"};
  figure.json = LinesChart(labels, x, series);
  return figure;
}

std::string Charts(const LoadRun& a, const LoadRun& b, const PairedTtft& paired, Page& page) {
  std::string html;
  for (const Figure& figure :
       {Both("ttft", "Time to first token", TtftValues(a, Subset::kAll),
             TtftValues(b, Subset::kAll)),
        Both("warm", "Time to first token, warm", TtftValues(a, Subset::kWarm),
             TtftValues(b, Subset::kWarm)),
        Both("gaps", "Inter-token latency", GapValues(a, Subset::kAll), GapValues(b, Subset::kAll)),
        PairedFigure(paired),
        BothOverTime(
            a, b,
            {"latency", "Time to first token over time, p50", "client_ttft_p50_ms", "ms", "ms"}),
        BothOverTime(a, b,
                     {"tokens", "Output tokens over time", "output_token_count",
                      "tokens per second", ""})}) {
    html += RenderFigure(figure);
    page.charts.emplace_back(figure.key, figure.json);
  }
  return html;
}

}  // namespace

size_t SignTestRank(size_t pairs) {
  const auto n = static_cast<double>(pairs);
  double log_probability = -n * std::log(2), below = 0;
  size_t rank = 0;
  for (double k = 0; rank <= pairs / 2; ++k, ++rank) {
    below += std::exp(log_probability);
    if (below > kTail) break;
    log_probability += std::log((n - k) / (k + 1));
  }
  return rank;
}

PairedTtft PairRequests(const LoadRun& a, const LoadRun& b) {
  PairedTtft paired;
  paired.why_none = WhyNotTheSame(a, b);
  if (!paired.why_none.empty()) return paired;
  std::map<std::pair<int64_t, int64_t>, double> in_a;
  for (const RequestRecord& r : a.requests) {
    if (CanBePaired(r)) in_a.emplace(std::pair(*r.session, *r.turn), *r.client_ttft_ms);
  }
  std::vector<double> differences;
  for (const RequestRecord& r : b.requests) {
    if (!CanBePaired(r)) continue;
    const auto other = in_a.find({*r.session, *r.turn});
    if (other == in_a.end()) continue;
    paired.a_ms.push_back(other->second);
    paired.b_ms.push_back(*r.client_ttft_ms);
    differences.push_back(*r.client_ttft_ms - other->second);
    in_a.erase(other);
  }
  if (differences.empty()) {
    paired.why_none = "no turn of a session completed in both";
    return paired;
  }
  std::sort(differences.begin(), differences.end());
  paired.median_difference_ms = load::Quantile(differences, 0.5);
  if (const size_t rank = SignTestRank(differences.size()); rank > 0) {
    paired.interval_ms = {differences[rank - 1], differences[differences.size() - rank]};
  }
  const auto faster = std::lower_bound(differences.begin(), differences.end(), 0.0);
  paired.faster_share =
      static_cast<double>(faster - differences.begin()) / static_cast<double>(differences.size());
  return paired;
}

std::string PairedInWords(const PairedTtft& paired) {
  if (!paired.why_none.empty()) return absl::StrCat("Not paired: ", paired.why_none, ".");
  const std::string interval =
      paired.interval_ms ? absl::StrCat("95 % interval ", Digits(paired.interval_ms->first), " to ",
                                        Digits(paired.interval_ms->second))
                         : "too few pairs for an interval";
  return absl::StrCat(paired.a_ms.size(),
                      " requests paired. Time to first token, B less A: median ",
                      Digits(paired.median_difference_ms), " ms (", interval, "); B was faster in ",
                      Percent(paired.faster_share), " of them.");
}

std::vector<std::vector<std::string>> CompareRows(const LoadRun& a, const LoadRun& b) {
  std::vector<std::vector<std::string>> rows{{"", "A", "B", "B less A", "B ÷ A", ""}};
  for (const RateName& rate : Rates()) {
    const Row row{rate.title, NumberIn(a.run, {"summary", "rates", rate.key}),
                  NumberIn(b.run, {"summary", "rates", rate.key}), rate.is_ratio, rate.better};
    if (std::isfinite(row.a) || std::isfinite(row.b)) rows.push_back(InCells(row));
  }
  for (const LatencyName& name : ClientLatencies()) AddLatency(a, b, name, rows);
  AddLatency(a, b, {"server_ttft", "Server: time to first token"}, rows);
  AddLatency(a, b, {"server_prefill", "Server: prefill"}, rows);
  return rows;
}

HtmlTable Differences(const LoadRun& a, const LoadRun& b) {
  HtmlTable table{"What differs", {"", "A", "B"}, {}, ""};
  for (const char* part : {"workload", "options", "server"}) {
    std::set<std::string> keys;
    for (const LoadRun* run : {&a, &b}) {
      for (const auto& [key, value] : MembersIn(run->run, {part})) keys.insert(key);
    }
    for (const std::string& key : keys) {
      const std::string in_a = TextIn(a.run, {part, key}), in_b = TextIn(b.run, {part, key});
      if (in_a != in_b) table.rows.push_back({absl::StrCat(part, ".", key), in_a, in_b});
    }
  }
  return table;
}

std::string RenderComparison(const LoadRun& a, const LoadRun& b) {
  Page page;
  page.title = "Two load tests";
  const auto named = [](const char* name, const LoadRun& run) {
    return absl::StrCat(name, ": ", run.folder, ", ", TextIn(run.run, {"workload", "name"}), " ",
                        Subtitle(run));
  };
  page.subtitle = absl::StrCat(named("A", a), "\n", named("B", b));
  const PairedTtft paired = PairRequests(a, b);
  const std::string charts = Charts(a, b, paired, page);
  std::vector<std::vector<std::string>> rows = CompareRows(a, b);
  HtmlTable figures{"Figures of both runs",
                    rows.front(),
                    {rows.begin() + 1, rows.end()},
                    "Latencies are of measured requests that completed. Better and worse are said "
                    "beyond 5 %; whether it is more than chance, the pairs say."};
  page.body = absl::StrCat("<p>", EscapeHtml(PairedInWords(paired)),
                           "</p><h2>At a glance</h2><div class=\"charts\">", charts,
                           "</div><h2>Figures</h2><div class=\"stack\">", RenderCard(figures),
                           RenderCard(Differences(a, b)), "</div>\n");
  return RenderPage(page);
}

}  // namespace reprise::client
