#include "client/load/slo.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"

namespace reprise::client::load {
namespace {

constexpr std::array<absl::string_view, 8> kRates = {
    "error_ratio",        "hit_ratio",
    "ideal_hit_ratio",    "completed_per_second",
    "sent_per_second",    "output_tokens_per_second",
    "goodput_per_second", "prompt_tokens_per_second"};
constexpr std::array<absl::string_view, 9> kStatistics = {"mean", "min", "p50",  "p75", "p90",
                                                          "p95",  "p99", "p999", "max"};

absl::Status Bad(absl::string_view option, absl::string_view text, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": \"", text, "\", ", problem));
}

// "200ms", "0.2 s", "1500us" in milliseconds.
absl::StatusOr<double> ParseTime(absl::string_view option, absl::string_view text) {
  constexpr std::array<std::pair<absl::string_view, double>, 3> kUnits{
      {{"ms", 1}, {"us", 1e-3}, {"s", 1e3}}};
  for (const auto& [unit, factor] : kUnits) {
    double number = 0;
    if (!absl::EndsWith(text, unit)) continue;
    const auto digits = absl::StripAsciiWhitespace(text.substr(0, text.size() - unit.size()));
    if (absl::SimpleAtod(digits, &number) && std::isfinite(number)) return number * factor;
    break;
  }
  return Bad(option, text, "expected a time with ms, s or us");
}

absl::StatusOr<double> ParseNumber(absl::string_view text) {
  const bool percent = absl::ConsumeSuffix(&text, "%");
  double number = 0;
  if (!absl::SimpleAtod(absl::StripAsciiWhitespace(text), &number) || !std::isfinite(number)) {
    return Bad("--slo", text, "expected a number");
  }
  return percent ? number / 100 : number;
}

// The name of a latency of the summary for what a limit calls it; empty when there is none.
std::string LatencyName(absl::string_view name) {
  for (const std::string& known : LatencyNames()) {
    if (known == name || known == absl::StrCat("client_", name)) return known;
  }
  return "";
}

absl::Status SetLatency(absl::string_view name, Slo& slo) {
  for (const absl::string_view statistic : kStatistics) {
    absl::string_view stem = name;
    if (!absl::ConsumeSuffix(&stem, absl::StrCat("_", statistic))) continue;
    slo.name = LatencyName(stem);
    slo.statistic = std::string(statistic);
    slo.unit = "ms";
    if (!slo.name.empty()) return absl::OkStatus();
  }
  return Bad("--slo", name,
             absl::StrCat("expected a latency (", absl::StrJoin(LatencyNames(), ", "),
                          ") with _mean, _min, _p50, _p75, _p90, _p95, _p99, _p999 or _max, or ",
                          absl::StrJoin(kRates, ", ")));
}

std::optional<double> Measured(const Slo& slo, const Summary& summary) {
  if (slo.statistic.empty()) return summary.Rate(slo.name);
  const Latency* latency = summary.Find(slo.name);
  if (latency == nullptr || !latency->strict) return std::nullopt;
  for (const auto& [name, value] : Statistics(*latency->strict)) {
    if (name == slo.statistic && std::isfinite(value)) return value;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<Slo> ParseSlo(absl::string_view text) {
  const size_t at = text.find_first_of("<>=");
  if (at == absl::string_view::npos) return Bad("--slo", text, "expected NAME=LIMIT");
  const auto name = absl::StripAsciiWhitespace(text.substr(0, at));
  absl::string_view rest = text.substr(at);
  Slo slo{.expression = std::string(text)};
  const bool rate = std::find(kRates.begin(), kRates.end(), name) != kRates.end();
  slo.at_most = !rate || name == "error_ratio";
  if (absl::ConsumePrefix(&rest, "<=") || absl::ConsumePrefix(&rest, "<")) {
    slo.at_most = true;
  } else if (absl::ConsumePrefix(&rest, ">=") || absl::ConsumePrefix(&rest, ">")) {
    slo.at_most = false;
  } else {
    rest.remove_prefix(1);
  }
  rest = absl::StripAsciiWhitespace(rest);
  if (rate) {
    slo.name = std::string(name);
    slo.unit = absl::EndsWith(name, "ratio") ? "ratio" : "per_second";
    ASSIGN_OR_RETURN(slo.limit, ParseNumber(rest));
    return slo;
  }
  RETURN_IF_ERROR(SetLatency(name, slo));
  ASSIGN_OR_RETURN(slo.limit, ParseTime("--slo", rest));
  return slo;
}

std::vector<SloResult> CheckSlos(const std::vector<Slo>& slos, const Summary& summary) {
  std::vector<SloResult> results;
  for (const Slo& slo : slos) {
    const auto measured = Measured(slo, summary);
    const bool met = measured && (slo.at_most ? *measured <= slo.limit : *measured >= slo.limit);
    results.push_back({slo, measured, met});
  }
  return results;
}

absl::StatusOr<RequestLimits> ParseGoodput(absl::string_view text) {
  RequestLimits limits;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> sides = absl::StrSplit(part, '=');
    if (sides.size() != 2) return Bad("--goodput", part, "expected ttft=, tpot= or e2e= a time");
    ASSIGN_OR_RETURN(const double limit, ParseTime("--goodput", sides[1]));
    if (sides[0] == "ttft") {
      limits.ttft = limit;
    } else if (sides[0] == "tpot") {
      limits.tpot = limit;
    } else if (sides[0] == "e2e") {
      limits.e2e = limit;
    } else {
      return Bad("--goodput", part, "expected ttft, tpot or e2e");
    }
  }
  return limits;
}

}  // namespace reprise::client::load
