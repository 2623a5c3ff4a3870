// When sessions arrive. Open loop: arrivals do not wait for replies.
//
// Threading  one thread at a time. The same options give the same arrivals.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/load/random.h"

namespace reprise::client::load {

enum class Arrival {
  kPoisson,
  kGamma,    // gaps with a coefficient of variation of `cv`: bursts above 1
  kRamp,     // Poisson; the rate grows in a line from `rate` to `end_rate` and stays there
  kUniform,  // evenly spaced
  kTrace,    // the sessions bring their times
  kClosed,   // as many at a time as `concurrency`
};

struct ScheduleOptions {
  Arrival arrival = Arrival::kPoisson;
  double rate = 1;          // arrivals a second, > 0
  double end_rate = 1;      // kRamp, > 0
  double ramp_seconds = 1;  // kRamp, > 0
  double cv = 3;            // kGamma, > 0
  uint64_t seed = 1;
};

// kInvalidArgument naming the option, its value and its limit.
absl::Status CheckSchedule(const ScheduleOptions& options);

// "poisson"; what ParseArrival reads.
absl::string_view ArrivalName(Arrival arrival);
absl::StatusOr<Arrival> ParseArrival(absl::string_view name);

// Of the arrivals that are drawn: kPoisson, kGamma, kRamp, kUniform.
class Schedule {
 public:
  explicit Schedule(const ScheduleOptions& options);

  // Seconds from the start to the next arrival; they never fall.
  double Next();

 private:
  double Gap();

  ScheduleOptions options_;
  Random random_;
  double now_ = 0;
  double expected_ = 0;  // kRamp: arrivals expected until now_
};

}  // namespace reprise::client::load
