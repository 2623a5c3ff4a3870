// SimulatedClock: a Clock that moves only when it is told to.
//
// Threading  every method is safe from any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/base/clock.h"

namespace reprise {

class SimulatedClock final : public Clock {
 public:
  void Advance(absl::Duration by) { nanoseconds_ += absl::ToInt64Nanoseconds(by); }

  absl::Time Now() const override { return absl::FromUnixSeconds(1700000000) + Elapsed(); }

  // Starts past zero, which the engine takes for "not yet".
  absl::Duration Monotonic() const override { return absl::Seconds(1) + Elapsed(); }

 private:
  absl::Duration Elapsed() const { return absl::Nanoseconds(nanoseconds_.load()); }

  std::atomic<int64_t> nanoseconds_{0};
};

}  // namespace reprise
