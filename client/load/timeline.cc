#include "client/load/timeline.h"

#include <algorithm>
#include <utility>

#include "client/load/statistics.h"

namespace reprise::client::load {
namespace {

void AddFinished(const RequestRecord& r, Second& second, std::vector<double>& ttft) {
  second.completed += r.completed() ? 1 : 0;
  second.failed += r.failed() ? 1 : 0;
  second.cancelled += r.cancelled ? 1 : 0;
  if (!r.reply) return;
  second.output_tokens += r.reply->usage().output_token_count();
  second.prompt_tokens += r.reply->usage().prompt_token_count();
  second.cached_tokens += r.reply->usage().cached_token_count();
  if (const auto value = ClientTtft(r)) ttft.push_back(*value);
}

}  // namespace

std::vector<Second> MakeTimeline(const std::vector<RequestRecord>& records,
                                 const std::vector<double>& not_sent) {
  double last = -1;
  for (const RequestRecord& r : records) last = std::max(last, r.finished);
  for (const double due : not_sent) last = std::max(last, due);
  const auto at = [](double seconds) { return static_cast<size_t>(std::max(0.0, seconds)); };
  std::vector<Second> timeline(last < 0 ? 0 : at(last) + 1);
  std::vector<std::vector<double>> ttft(timeline.size());
  for (const RequestRecord& r : records) {
    ++timeline[at(r.scheduled)].scheduled;
    ++timeline[at(r.sent)].sent;
    ++timeline[at(r.sent)].in_flight;
    --timeline[at(r.finished)].in_flight;
    AddFinished(r, timeline[at(r.finished)], ttft[at(r.finished)]);
  }
  for (const double due : not_sent) ++timeline[at(due)].scheduled;
  for (size_t i = 0; i < timeline.size(); ++i) {
    if (i > 0) timeline[i].in_flight += timeline[i - 1].in_flight;
    const auto d = Describe(std::move(ttft[i]));
    if (!d) continue;
    timeline[i].ttft_p50_ms = d->p50;
    timeline[i].ttft_p99_ms = d->p99;
  }
  return timeline;
}

}  // namespace reprise::client::load
