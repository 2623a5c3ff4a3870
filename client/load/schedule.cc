#include "client/load/schedule.h"

#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise::client::load {
namespace {

constexpr double kMaxRate = 1e5;

constexpr std::array<std::pair<Arrival, absl::string_view>, 6> kNames{{
    {Arrival::kPoisson, "poisson"},
    {Arrival::kGamma, "gamma"},
    {Arrival::kRamp, "ramp"},
    {Arrival::kUniform, "uniform"},
    {Arrival::kTrace, "trace"},
    {Arrival::kClosed, "closed"},
}};

absl::Status CheckRange(absl::string_view name, double value, double most) {
  if (value > 0 && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", value, ", must be above 0 and at most ", most));
}

// When `count` arrivals are expected of a rate that grows from `rate` to `end_rate`.
double RampTime(const ScheduleOptions& o, double count) {
  const double slope = (o.end_rate - o.rate) / o.ramp_seconds;
  const double within = (o.rate + o.end_rate) / 2 * o.ramp_seconds;
  if (count >= within) return o.ramp_seconds + (count - within) / o.end_rate;
  if (std::abs(slope) < 1e-12 * o.rate) return count / o.rate;
  return (std::sqrt(o.rate * o.rate + 2 * slope * count) - o.rate) / slope;
}

}  // namespace

absl::Status CheckSchedule(const ScheduleOptions& options) {
  if (options.arrival == Arrival::kTrace || options.arrival == Arrival::kClosed) {
    return absl::OkStatus();
  }
  absl::Status status = CheckRange("--rate", options.rate, kMaxRate);
  if (options.arrival == Arrival::kGamma) status.Update(CheckRange("--cv", options.cv, 100));
  if (options.arrival == Arrival::kRamp) {
    status.Update(CheckRange("--end-rate", options.end_rate, kMaxRate));
    status.Update(CheckRange("--ramp-seconds", options.ramp_seconds, 1e6));
  }
  return status;
}

absl::string_view ArrivalName(Arrival arrival) {
  for (const auto& [value, name] : kNames) {
    if (value == arrival) return name;
  }
  return "";
}

absl::StatusOr<Arrival> ParseArrival(absl::string_view text) {
  for (const auto& [value, name] : kNames) {
    if (name == text) return value;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--arrival: \"", text, "\", expected poisson, gamma, ramp, uniform, trace or closed"));
}

Schedule::Schedule(const ScheduleOptions& options) : options_(options), random_(options.seed) {}

double Schedule::Gap() {
  switch (options_.arrival) {
    case Arrival::kGamma: {
      const double shape = 1 / (options_.cv * options_.cv);
      return random_.Gamma(shape) / shape / options_.rate;
    }
    case Arrival::kUniform:
      return 1 / options_.rate;
    default:
      return random_.Exponential(1 / options_.rate);
  }
}

double Schedule::Next() {
  if (options_.arrival == Arrival::kRamp) {
    expected_ += random_.Exponential(1);
    now_ = RampTime(options_, expected_);
  } else {
    now_ += Gap();
  }
  return now_;
}

}  // namespace reprise::client::load
