#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/load/report.h"

namespace reprise::client::load {
namespace {

// An offered rate below this share of the one that was asked for is told.
constexpr double kReachedShare = 0.9;

// A schedule kept worse than this says more of the client than of the server.
constexpr double kLateMs = 5;

void AddScheduleWarnings(const RunReport& report, const std::vector<RequestRecord>& records,
                         std::vector<Warning>& warnings) {
  if (report.closed_loop) {
    warnings.push_back({"closed_loop",
                        "closed loop: a slow server was asked less often, so its latencies leave "
                        "out what would have waited; use --rate for latencies under a load"});
  }
  std::vector<double> own, held;
  for (const RequestRecord& r : records) {
    (r.held_back ? held : own).push_back((r.sent - r.scheduled) * 1000);
  }
  if (const auto d = Describe(std::move(held))) {
    warnings.push_back(
        {"coordinated_omission",
         absl::StrFormat("%d of %d requests waited for --max-in-flight, up to %.0f ms: times from "
                         "sending leave that out, read those called _scheduled",
                         d->count, records.size(), d->max)});
  }
  if (!report.outcome.not_sent.empty()) {
    warnings.push_back(
        {"not_sent", absl::StrCat(report.outcome.not_sent.size(),
                                  " more requests were due and never sent, since --max-in-flight "
                                  "held them back: no latency has them, an --slo on one called "
                                  "_scheduled counts them as missed")});
  }
  const auto d = Describe(std::move(own));
  if (d && d->p99 > kLateMs) {
    warnings.push_back(
        {"client_too_slow",
         absl::StrFormat("the client kept its schedule within %.1f ms at p99 (%.1f ms at worst): "
                         "it has too little of its processor; read the times called _scheduled",
                         d->p99, d->max)});
  }
}

const char* WhyNothingWasSent(const RunOutcome& outcome) {
  if (outcome.unfinished_sessions > 0) {
    return "no session fits the model's window; --length-scale makes most workloads shorter";
  }
  if (outcome.end == RunEnd::kInterrupted) return "it was interrupted before a request was due";
  return "no request was due before the end; use a longer --duration";
}

void AddRateWarnings(const RunReport& report, const std::vector<RequestRecord>& records,
                     std::vector<Warning>& warnings) {
  if (records.empty()) {
    warnings.push_back(
        {"nothing_sent", absl::StrCat("nothing was sent: ", WhyNothingWasSent(report.outcome))});
    return;
  }
  const auto offered = report.summary.Rate("offered_per_second");
  if (!report.rate || !offered || *offered >= kReachedShare * *report.rate) return;
  warnings.push_back(
      {"below_rate",
       absl::StrFormat("%.3g requests/s were offered of the %.3g asked for: sessions of several "
                       "turns reach their rate only once those of all ages run, and few arrivals "
                       "keep it by chance; use a longer --duration",
                       *offered, *report.rate)});
}

void AddWarmStart(const RunReport& report, const std::vector<RequestRecord>& records,
                  std::vector<Warning>& warnings) {
  const auto first = std::find_if(records.begin(), records.end(),
                                  [](const RequestRecord& r) { return r.index == 0; });
  const bool reused = first != records.end() && first->warm();
  if (!reused) return;
  warnings.push_back(
      {"warm_start", absl::StrFormat("the first request already reused %d of %d tokens: an "
                                     "earlier run filled the cache; use another --workload-seed",
                                     first->reply->usage().cached_token_count(),
                                     first->reply->usage().prompt_token_count())});
}

void AddTraceWarnings(const WorkloadFacts& workload, std::vector<Warning>& warnings) {
  if (workload.malformed_count > 0) {
    warnings.push_back({"malformed_trace",
                        absl::StrCat(workload.malformed_count, " malformed lines were skipped")});
  }
  if (workload.clipped_count > 0) {
    warnings.push_back(
        {"clipped_prompts",
         absl::StrCat(workload.clipped_count,
                      " requests of the trace were cut to the model's window; --length-scale "
                      "makes all of them shorter instead")});
  }
}

}  // namespace

std::vector<Warning> FindWarnings(const RunReport& report,
                                  const std::vector<RequestRecord>& records) {
  std::vector<Warning> warnings;
  AddRateWarnings(report, records, warnings);
  AddScheduleWarnings(report, records, warnings);
  AddWarmStart(report, records, warnings);
  AddTraceWarnings(report.workload, warnings);
  if (report.outcome.unfinished_sessions > 0) {
    warnings.push_back({"unfinished_sessions",
                        absl::StrCat(report.outcome.unfinished_sessions,
                                     " sessions had turns that were not sent: the run ended, they "
                                     "did not fit the window, or a turn failed")});
  }
  if (const int64_t aborted = report.summary.Total("aborted_count"); aborted > 0) {
    warnings.push_back(
        {"cut_off", absl::StrCat(aborted,
                                 " requests were cut off at the end and are in no latency, so "
                                 "these look better than they are: use a longer --grace; an --slo "
                                 "counts them as missed, error_ratio as failed")});
  }
  if (const int64_t failed = report.summary.Total("failed_count"); failed > 0) {
    warnings.push_back({"errors", absl::StrCat(failed, " requests failed")});
  }
  return warnings;
}

}  // namespace reprise::client::load
