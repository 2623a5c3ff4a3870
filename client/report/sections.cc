#include "client/report/sections.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "client/report/run_values.h"

namespace reprise::client {
namespace {

constexpr size_t kSlowest = 10;
constexpr const char* kStatistics[] = {"mean", "p50", "p90", "p95", "p99", "p999", "max"};
constexpr const char* kSubsets[] = {"all", "cold", "warm"};

double Latency(const LoadRun& run, absl::string_view name, absl::string_view subset,
               absl::string_view statistic) {
  return NumberIn(run.run, {"summary", "latency", name, subset, statistic});
}

double Total(const LoadRun& run, absl::string_view name) {
  return NumberIn(run.run, {"summary", "totals", name});
}

double Rate(const LoadRun& run, absl::string_view name) {
  return NumberIn(run.run, {"summary", "rates", name});
}

// "name to count" objects as a table, the most frequent first.
HtmlTable Counts(const LoadRun& run, const char* caption, absl::string_view key) {
  HtmlTable table{caption, {"", "requests"}, {}, ""};
  auto members = MembersIn(run.run, {"summary", key});
  std::stable_sort(members.begin(), members.end(), [&](const auto& a, const auto& b) {
    return NumberIn(run.run, {"summary", key, a.first}) >
           NumberIn(run.run, {"summary", key, b.first});
  });
  for (const auto& [name, count] : members) {
    table.rows.push_back({name, Digits(NumberIn(run.run, {"summary", key, name}))});
  }
  return table;
}

void AddLatencyRows(const LoadRun& run, const LatencyName& name, HtmlTable& table) {
  for (const char* subset : kSubsets) {
    const double count = Latency(run, name.key, subset, "count");
    if (!std::isfinite(count)) continue;
    std::vector<std::string> row{subset == kSubsets[0] ? name.title : "", subset, Digits(count)};
    for (const char* statistic : kStatistics) {
      row.push_back(Digits(Latency(run, name.key, subset, statistic)));
    }
    row.push_back(
        subset == kSubsets[0] ? TextIn(run.run, {"summary", "latency", name.key, "formula"}) : "");
    table.rows.push_back(row);
  }
}

HtmlTable LatencyTable(const LoadRun& run, const char* caption,
                       const std::vector<LatencyName>& names) {
  HtmlTable table{
      caption,
      {"", "requests", "count", "mean", "p50", "p90", "p95", "p99", "p99.9", "max", "formula"},
      {},
      "Milliseconds, of measured requests that completed. Warm: some of the prompt was "
      "reused; cold: none."};
  for (const LatencyName& name : names) AddLatencyRows(run, name, table);
  return table;
}

// What the client measured beside what the server said of the same requests.
HtmlTable SideBySide(const LoadRun& run) {
  HtmlTable table{"Client and server side by side",
                  {"", "client p50", "server p50", "client less server, p50", "client p99",
                   "server p99", "client less server, p99"},
                  {},
                  "Milliseconds. The difference is taken for each request, so it is the network, "
                  "gRPC and the client."};
  const char* const rows[][4] = {
      {"Time to first token", "client_ttft", "server_ttft", "network_ttft"},
      {"Time per output token", "client_tpot", "server_tpot", ""},
      {"Whole request", "client_e2e", "server_total", "network_total"}};
  for (const auto& [title, client, server, difference] : rows) {
    std::vector<std::string> row{title};
    for (const char* statistic : {"p50", "p99"}) {
      row.push_back(Digits(Latency(run, client, "all", statistic)));
      row.push_back(Digits(Latency(run, server, "all", statistic)));
      row.push_back(Digits(Latency(run, difference, "all", statistic)));
    }
    table.rows.push_back(row);
  }
  return table;
}

HtmlTable MembersTable(const LoadRun& run, const char* caption, absl::string_view key) {
  HtmlTable table{caption, {"", ""}, {}, ""};
  for (const auto& [name, value] : MembersIn(run.run, {key})) {
    if (!value.empty()) table.rows.push_back({name, value});
  }
  return table;
}

HtmlTable RateTable(const LoadRun& run) {
  HtmlTable table{"Rates", {"", "value", "formula"}, {}, ""};
  for (const RateName& rate : Rates()) {
    const double value = Rate(run, rate.key);
    if (!std::isfinite(value)) continue;
    table.rows.push_back(
        {rate.title, rate.is_ratio ? Percent(value) : Digits(value), rate.formula});
  }
  return table;
}

HtmlTable TotalTable(const LoadRun& run) {
  HtmlTable table{"Totals",
                  {"", "value"},
                  {},
                  "Of all requests, the warm-up included; sums of "
                  "tokens are over those that completed."};
  for (const auto& [name, value] : MembersIn(run.run, {"summary", "totals"})) {
    table.rows.push_back({name, Digits(Total(run, name))});
  }
  return table;
}

}  // namespace

const std::vector<LatencyName>& ClientLatencies() {
  static const auto* const names = new std::vector<LatencyName>{
      {"client_ttft", "Time to first token"},
      {"client_ttft_scheduled", "Time to first token, from the schedule"},
      {"client_itl", "Inter-token latency"},
      {"client_tpot", "Time per output token"},
      {"client_e2e", "Whole request"},
      {"client_e2e_scheduled", "Whole request, from the schedule"},
      {"send_delay", "Sent after the schedule"}};
  return *names;
}

const std::vector<LatencyName>& ServerLatencies() {
  static const auto* const names =
      new std::vector<LatencyName>{{"server_queue", "Queue"},
                                   {"server_tokenize", "Tokenise"},
                                   {"server_lookup", "Look-up"},
                                   {"server_shared_wait", "Wait for a shared prefix"},
                                   {"server_load", "Load"},
                                   {"server_prefill", "Prefill"},
                                   {"server_ttft", "Time to first token"},
                                   {"server_tpot", "Time per output token"},
                                   {"server_decode", "Decode"},
                                   {"server_total", "Total"},
                                   {"prediction_error", "Load and prefill beyond the prediction"}};
  return *names;
}

const std::vector<RateName>& Rates() {
  static const auto* const rates = new std::vector<RateName>{
      {"offered_per_second", "Requests offered per second", "(sent − 1) / (last − first schedule)",
       false, 0},
      {"sent_per_second", "Requests sent per second",
       "(sent − 1) / (last sending − first schedule)", false, 0},
      {"completed_per_second", "Requests completed per second", "completed / wall time", false, 1},
      {"goodput_per_second", "Goodput, requests per second",
       "completed within the limits of --goodput / wall time", false, 1},
      {"output_tokens_per_second", "Output tokens per second", "output tokens / wall time", false,
       1},
      {"prompt_tokens_per_second", "Prompt tokens per second", "prompt tokens / wall time", false,
       1},
      {"hit_ratio", "Reused share of prompt tokens", "cached / prompt tokens", true, 1},
      {"ideal_hit_ratio", "Reused share of what was possible", "cached / ideal tokens", true, 1},
      {"error_ratio", "Failed share of requests", "(failed + cut off at the end) / sent", true, -1},
      {"peak_in_flight", "Most requests in flight", "largest number at once", false, 0}};
  return *rates;
}

std::string Milliseconds(double value) {
  if (!std::isfinite(value)) return "–";
  return value >= 1000 ? absl::StrCat(Digits(value / 1000), " s")
                       : absl::StrCat(Digits(value), " ms");
}

std::string Subtitle(const LoadRun& run) {
  std::string text = absl::StrCat("on ", TextIn(run.run, {"server", "name"}));
  const std::string device = TextIn(run.run, {"server", "device"});
  if (!device.empty()) absl::StrAppend(&text, " (", device, ")");
  absl::StrAppend(&text, " · ", TextIn(run.run, {"options", "arrival"}), " arrivals · ",
                  Digits(NumberIn(run.run, {"wall_seconds"})), " s · started ",
                  TextIn(run.run, {"started_at"}));
  const std::string ended = TextIn(run.run, {"ended"});
  if (ended == "interrupted") absl::StrAppend(&text, " · interrupted");
  return text;
}

std::string Warnings(const LoadRun& run) {
  std::string items;
  for (const JsonValue& warning : ListIn(run.run, {"summary", "warnings"})) {
    absl::StrAppend(&items, "<li>", EscapeHtml(TextIn(warning, {"message"})), "</li>");
  }
  if (items.empty()) return "";
  return absl::StrCat("<section class=\"warnings\" aria-label=\"Warnings\"><ul>", items,
                      "</ul></section>\n");
}

std::string KeyFigures(const LoadRun& run) {
  const double cold = Latency(run, "client_ttft", "cold", "p50");
  const double warm = Latency(run, "client_ttft", "warm", "p50");
  std::vector<Card> cards{
      {"Requests completed", Digits(Total(run, "completed_count")),
       absl::StrCat("of ", Digits(Total(run, "sent_count")), " sent; ",
                    Digits(Total(run, "failed_count")), " failed, ",
                    Digits(Total(run, "cancelled_count")), " cancelled")},
      {"Time to first token, p50", Milliseconds(Latency(run, "client_ttft", "all", "p50")),
       absl::StrCat("p99 ", Milliseconds(Latency(run, "client_ttft", "all", "p99")))},
      {"Warm against cold, p50",
       std::isfinite(cold / warm) ? absl::StrCat(Digits(cold / warm), "×") : "–",
       absl::StrCat("first token cold ", Milliseconds(cold), " / warm ", Milliseconds(warm))},
      {"Inter-token latency, p50", Milliseconds(Latency(run, "client_itl", "all", "p50")),
       absl::StrCat("p99 ", Milliseconds(Latency(run, "client_itl", "all", "p99")))},
      {"Output tokens per second", Digits(Rate(run, "output_tokens_per_second")),
       absl::StrCat(Digits(Rate(run, "completed_per_second")), " requests per second")},
      {"Prompt tokens reused", Percent(Rate(run, "hit_ratio")),
       absl::StrCat(Percent(Rate(run, "ideal_hit_ratio")), " of what was possible")}};
  return RenderCards(cards);
}

std::string Objectives(const LoadRun& run) {
  HtmlTable table{"", {"objective", "result", "measured", "limit"}, {}, ""};
  for (const JsonValue& slo : ListIn(run.run, {"summary", "slo"})) {
    const std::string unit = TextIn(slo, {"unit"});
    const auto shown = [&](const char* key) {
      const double value = NumberIn(slo, {key});
      if (unit == "ratio") return Percent(value);
      return absl::StrCat(Digits(value), unit.empty() ? "" : " ", unit);
    };
    table.rows.push_back(
        {TextIn(slo, {"expression"}), FlagIn(slo, {"met"}) ? "met" : "missed", shown("measured"),
         absl::StrCat(TextIn(slo, {"relation"}) == ">=" ? "≥ " : "≤ ", shown("limit"))});
  }
  return table.rows.empty() ? "" : absl::StrCat("<h2>Objectives</h2>", RenderCard(table));
}

HtmlTable LatencyNumbers(const LoadRun& run, const char* key) {
  HtmlTable table{
      "", {"requests", "count", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"}, {}, ""};
  for (const char* subset : {"cold", "warm"}) {
    const double count = Latency(run, key, subset, "count");
    if (!std::isfinite(count)) continue;
    std::vector<std::string> row{subset, Digits(count)};
    for (const char* statistic : kStatistics)
      row.push_back(Digits(Latency(run, key, subset, statistic)));
    table.rows.push_back(row);
  }
  return table;
}

std::string LatencyTables(const LoadRun& run) {
  return absl::StrCat("<h2>Latency</h2><div class=\"stack\">", RenderCard(SideBySide(run)),
                      RenderCard(LatencyTable(run, "Measured by the client", ClientLatencies())),
                      RenderCard(LatencyTable(run, "Reported by the server", ServerLatencies())),
                      "</div>\n");
}

std::string OutcomeTables(const LoadRun& run) {
  HtmlTable errors = Counts(run, "Messages of failed requests", "errors");
  return absl::StrCat("<h2>Outcomes and errors</h2><div class=\"charts\">",
                      RenderCard(Counts(run, "Status codes", "codes")), RenderCard(errors),

                      RenderCard(Counts(run, "Why nothing was reused", "miss_reasons")),
                      RenderCard(Counts(run, "Finish reasons", "finish_reasons")), "</div>\n");
}

std::string SlowestRequests(const LoadRun& run) {
  std::vector<const RequestRecord*> chosen;
  for (const RequestRecord& record : run.requests) {
    if (record.client_ttft_ms) chosen.push_back(&record);
  }
  const size_t count = std::min(kSlowest, chosen.size());
  std::partial_sort(
      chosen.begin(), chosen.begin() + static_cast<int64_t>(count), chosen.end(),
      [](const auto* a, const auto* b) { return *a->client_ttft_ms > *b->client_ttft_ms; });
  HtmlTable table{"Slowest first tokens",
                  {"request", "label", "status", "prompt tokens", "reused", "client TTFT ms",
                   "server TTFT ms", "whole request ms"},
                  {},
                  "The request id is in the server's log."};
  const auto shown = [](const auto& value) {
    return value ? Digits(static_cast<double>(*value)) : std::string("–");
  };
  for (size_t i = 0; i < count; ++i) {
    const RequestRecord& r = *chosen[i];
    table.rows.push_back({r.request_id, r.label, r.code, shown(r.prompt_tokens),
                          shown(r.cached_tokens), shown(r.client_ttft_ms), shown(r.server_ttft_ms),
                          shown(r.client_e2e_ms)});
  }
  return RenderCard(table);
}

std::string SetupTables(const LoadRun& run) {
  std::string notes;
  for (const JsonValue& note : ListIn(run.run, {"workload", "notes"})) {
    absl::StrAppend(&notes, "<p class=\"muted\">", EscapeHtml(Scalar(note)), "</p>");
  }
  return absl::StrCat("<h2>Rates and totals</h2><div class=\"charts\">", RenderCard(RateTable(run)),
                      RenderCard(TotalTable(run)), "</div><h2>How it was run</h2>", notes,
                      "<p><code>", EscapeHtml(TextIn(run.run, {"command_line"})),
                      "</code></p><div class=\"charts\">",
                      RenderCard(MembersTable(run, "Options", "options")), "<div class=\"stack\">",
                      RenderCard(MembersTable(run, "Server", "server")),
                      RenderCard(MembersTable(run, "Workload", "workload")), "</div></div>\n");
}

std::string SourcesAndDecisions(const LoadRun& run) {
  const std::pair<const char*, const char*> sources[] = {{"device", "device_token_count"},
                                                         {"host", "host_token_count"},
                                                         {"disk", "disk_token_count"},
                                                         {"computed", "computed_token_count"}};
  double all = 0;
  for (const auto& [name, key] : sources) all += std::max(0.0, Total(run, key));
  const std::string decisions = RenderCard(Counts(run, "Decisions about reuse", "decisions")) +
                                RenderCard(Counts(run, "Their reasons", "reasons"));
  if (!(all > 0)) return absl::StrCat("<div class=\"stack\">", decisions, "</div>");
  std::string bar, keys;
  for (const auto& [name, key] : sources) {
    const double tokens = Total(run, key);
    if (!(tokens > 0)) continue;
    const std::string share = Percent(tokens / all);
    absl::StrAppend(&bar, "<span class=\"", name, "\" style=\"flex:", tokens / all, "\"></span>");
    absl::StrAppend(&keys, "<tr><th scope=\"row\"><span class=\"key ", name, "\"></span>", name,
                    "</th><td class=\"n\">", Digits(tokens), "</td><td class=\"n\">", share,
                    "</td></tr>");
  }
  return absl::StrCat(
      "<div class=\"stack\"><figure><h3>Prompt tokens by source</h3><figcaption>tier that held "
      "them, or computed; sums "
      "over completed requests</figcaption><div class=\"bar\" aria-hidden=\"true\">",
      bar,
      "</div><table><thead><tr><th scope=\"col\">source</th><th scope=\"col\" class=\"n\">tokens"
      "</th><th scope=\"col\" class=\"n\">share</th></tr></thead><tbody>",
      keys, "</tbody></table></figure>", decisions, "</div>\n");
}

}  // namespace reprise::client
