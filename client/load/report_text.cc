// The block of text at the end of a run.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/format.h"
#include "client/load/report.h"

namespace reprise::client::load {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string Ms(double value) {
  return value < 10 ? absl::StrFormat("%.2f", value) : absl::StrFormat("%.1f", value);
}

std::string RateText(const std::optional<double>& value) {
  return value ? absl::StrFormat("%.1f", *value) : "-";
}

std::string RatioText(const std::optional<double>& value) {
  return value ? absl::StrFormat("%.1f %%", 100 * *value) : "-";
}

void AddRow(const std::string& name, const std::optional<Distribution>& d, Rows& rows) {
  if (!d) return;
  rows.push_back({name, absl::StrCat(d->count), Ms(d->mean), Ms(d->p50), Ms(d->p90), Ms(d->p95),
                  Ms(d->p99), Ms(d->max)});
}

std::string LatencyTable(const Summary& summary) {
  Rows rows{{"latency, ms", "count", "mean", "p50", "p90", "p95", "p99", "max"}};
  for (const Latency& latency : summary.latencies) {
    AddRow(absl::StrCat(latency.name, " = ", latency.formula), latency.all, rows);
    if (latency.name != "client_ttft" && latency.name != "server_prefill") continue;
    if (!latency.warm || !latency.cold) continue;
    AddRow("  cold (nothing reused)", latency.cold, rows);
    AddRow("  warm", latency.warm, rows);
  }
  return FormatTable(rows);
}

// What both sides measured of the same thing.
std::string SidesTable(const Summary& summary) {
  Rows rows{{"client beside server, ms", "client p50", "server p50", "client p99", "server p99"}};
  for (const auto& [title, client, server] :
       {std::array{"first token", "client_ttft", "server_ttft"},
        std::array{"per output token", "client_tpot", "server_tpot"},
        std::array{"whole reply", "client_e2e", "server_total"}}) {
    const Latency *a = summary.Find(client), *b = summary.Find(server);
    if (a == nullptr || b == nullptr || !a->all || !b->all) continue;
    rows.push_back({title, Ms(a->all->p50), Ms(b->all->p50), Ms(a->all->p99), Ms(b->all->p99)});
  }
  return rows.size() > 1 ? FormatTable(rows) : "";
}

std::string CountsText(const char* title, const std::map<std::string, int64_t>& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", count, " ", name);
  }
  return text.empty() ? "" : absl::StrFormat("%-12s%s\n", title, text);
}

std::string TotalsText(const Summary& s) {
  const auto total = [&](const char* name) { return s.Total(name); };
  std::string text = absl::StrFormat(
      "requests    %d sent in %d sessions: %d completed, %d failed, %d cancelled, %d cut off at "
      "the end, %d never sent\n",
      total("sent_count"), total("sessions_count"), total("completed_count"), total("failed_count"),
      total("cancelled_count"), total("aborted_count"), total("not_sent_count"));
  absl::StrAppendFormat(
      &text, "rate        offered %s/s, completed %s/s, %s output and %s prompt tokens/s",
      RateText(s.Rate("offered_per_second")), RateText(s.Rate("completed_per_second")),
      RateText(s.Rate("output_tokens_per_second")), RateText(s.Rate("prompt_tokens_per_second")));
  if (const auto goodput = s.Rate("goodput_per_second")) {
    absl::StrAppendFormat(&text, ", goodput %s/s", RateText(goodput));
  }
  absl::StrAppendFormat(&text, ", at most %.0f in flight\n", s.Rate("peak_in_flight").value_or(0));
  absl::StrAppendFormat(
      &text,
      "reuse       %d of %d prompt tokens (%s; device %d, host %d, disk %d), %s of what some tier "
      "held\n",
      total("cached_token_count"), total("prompt_token_count"), RatioText(s.Rate("hit_ratio")),
      total("device_token_count"), total("host_token_count"), total("disk_token_count"),
      RatioText(s.Rate("ideal_hit_ratio")));
  return text;
}

std::string SloText(const std::vector<SloResult>& results) {
  std::string text;
  for (const auto& [slo, measured, met] : results) {
    const char* unit = slo.unit == "ms" ? " ms" : "";
    const std::string got =
        measured ? absl::StrFormat("%.6g%s", *measured, unit) : "nothing that ended";
    absl::StrAppendFormat(&text, "SLO %s  %s: measured %s\n", met ? "met   " : "MISSED",
                          slo.expression, got);
  }
  return text;
}

}  // namespace

std::string ConsoleText(const RunReport& report) {
  const Summary& s = report.summary;
  std::string text = absl::StrFormat(
      "\n%s %s against %s (%s, %s) at %s\n%s\n\n", report.workload.kind, report.workload.name,
      Printable(report.model.name()), Printable(report.model.architecture()),
      Printable(report.model.device()), report.address, report.load_text);
  absl::StrAppend(&text, TotalsText(s), CountsText("status", s.codes),
                  CountsText("decisions", s.decisions), CountsText("finished", s.finish_reasons));
  for (const auto& [message, count] : s.errors) {
    absl::StrAppend(&text, "error       ", count, " times: ", Printable(message), "\n");
  }
  absl::StrAppend(&text, "\n", LatencyTable(s), "\n", SidesTable(s));
  for (const std::string& note : report.workload.notes) {
    absl::StrAppend(&text, "note: ", Printable(note), "\n");
  }
  for (const Warning& one : report.warnings) {
    absl::StrAppend(&text, "warning: ", Printable(one.message), "\n");
  }
  absl::StrAppend(&text, SloText(report.slos));
  return text;
}

}  // namespace reprise::client::load
