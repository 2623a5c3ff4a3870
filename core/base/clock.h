// Clock is injected time. Wall time stamps records; monotonic time measures.
//
// Real: SystemClock. Fake: tests/fakes/simulated_clock.h.
// Threading  all methods are safe to call from any thread.
#pragma once

#include "absl/time/time.h"

namespace reprise {

class Clock {
 public:
  virtual ~Clock() = default;

  // Wall-clock time; may jump.
  virtual absl::Time Now() const = 0;

  // Time since an arbitrary fixed origin; never goes back.
  virtual absl::Duration Monotonic() const = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override;
  absl::Duration Monotonic() const override;
};

}  // namespace reprise
