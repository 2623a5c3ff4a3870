// ProcessMetrics: what the process takes of its machine, as metrics. Names and help texts are in
// process_metrics.cc.
//
// Threading  safe from any thread.
#pragma once

#include <prometheus/registry.h>

#include <memory>

#include "core/telemetry/process_usage.h"

namespace reprise {

class ProcessMetrics {
 public:
  explicit ProcessMetrics(prometheus::Registry& registry);
  ~ProcessMetrics();

  // Counters never go back: a smaller value than the last one leaves them.
  void Set(const ProcessUsage& usage);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace reprise
