// Keeps the record of each request and says, while the run goes on, how it goes.
//
// Threading  every method is safe from any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "client/load/record.h"

namespace reprise::client::load {

// The moment of a run.
struct LiveState {
  double seconds = 0;
  int64_t sent = 0;
  int64_t finished = 0;
  int64_t failed = 0;
  int64_t in_flight = 0;
  double completed_per_second = 0;  // of the last ten seconds, like the times
  std::optional<double> hit_ratio;  // so far
  std::optional<double> ttft_p50_ms, ttft_p99_ms;
};

class Recorder {
 public:
  void Sent();
  void Finished(RequestRecord record);

  LiveState Live(double now) const;
  int64_t peak_in_flight() const;

  // All records in the order in which they ended; the recorder is empty afterwards.
  std::vector<RequestRecord> Take();

 private:
  struct Recent {
    double finished;
    std::optional<double> ttft_ms;
  };

  mutable absl::Mutex mutex_;
  std::vector<RequestRecord> records_ ABSL_GUARDED_BY(mutex_);
  std::deque<Recent> recent_ ABSL_GUARDED_BY(mutex_);  // completed
  int64_t sent_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t finished_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t failed_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t peak_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t cached_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
};

// "  12.0 s | sent 203 | in flight 13 | 16.9 done/s | failed 0 | hits 61.2 % | TTFT p50 12.3 …"
std::string ProgressLine(const LiveState& state);

}  // namespace reprise::client::load
