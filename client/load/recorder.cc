#include "client/load/recorder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/load/statistics.h"

namespace reprise::client::load {
namespace {

constexpr double kRecentSeconds = 10;

std::string Optional(const std::optional<double>& value) {
  return value ? absl::StrFormat("%.1f", *value) : "-";
}

}  // namespace

void Recorder::Sent() {
  absl::MutexLock lock(&mutex_);
  ++sent_;
  peak_ = std::max(peak_, sent_ - finished_);
}

void Recorder::Finished(RequestRecord record) {
  absl::MutexLock lock(&mutex_);
  ++finished_;
  if (record.failed()) ++failed_;
  if (record.completed()) {
    recent_.push_back({record.finished, ClientTtft(record)});
    while (recent_.front().finished < record.finished - kRecentSeconds) recent_.pop_front();
    prompt_tokens_ += record.reply->usage().prompt_token_count();
    cached_tokens_ += record.reply->usage().cached_token_count();
  }
  records_.push_back(std::move(record));
}

LiveState Recorder::Live(double now) const {
  LiveState state{.seconds = now};
  std::vector<double> ttft;
  {
    absl::MutexLock lock(&mutex_);
    state.sent = sent_;
    state.finished = finished_;
    state.failed = failed_;
    state.in_flight = sent_ - finished_;
    for (const Recent& one : recent_) {
      if (one.finished < now - kRecentSeconds) continue;
      state.completed_per_second += 1 / std::clamp(now, 1e-3, kRecentSeconds);
      if (one.ttft_ms) ttft.push_back(*one.ttft_ms);
    }
    if (prompt_tokens_ > 0) {
      state.hit_ratio = static_cast<double>(cached_tokens_) / static_cast<double>(prompt_tokens_);
    }
  }
  // Sorts without the lock, which the schedule takes too.
  if (const auto d = Describe(std::move(ttft))) {
    state.ttft_p50_ms = d->p50;
    state.ttft_p99_ms = d->p99;
  }
  return state;
}

int64_t Recorder::peak_in_flight() const {
  absl::MutexLock lock(&mutex_);
  return peak_;
}

std::vector<RequestRecord> Recorder::Take() {
  absl::MutexLock lock(&mutex_);
  return std::move(records_);
}

std::string ProgressLine(const LiveState& state) {
  std::string hits = "-";
  if (state.hit_ratio) hits = absl::StrFormat("%.1f %%", 100 * *state.hit_ratio);
  return absl::StrFormat(
      "%6.1f s | sent %d | in flight %d | %.1f done/s | failed %d | hits %s | TTFT p50 %s p99 %s "
      "ms",
      state.seconds, state.sent, state.in_flight, state.completed_per_second, state.failed, hits,
      Optional(state.ttft_p50_ms), Optional(state.ttft_p99_ms));
}

}  // namespace reprise::client::load
