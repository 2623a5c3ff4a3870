// TenantMetrics: what is counted by tenant and by cache namespace. Names and help texts are in
// tenant_metrics.cc. Labels are the names that the configuration has, so a caller can make no
// new time series.
//
// Threading  every method is safe from any thread.
#pragma once

#include <prometheus/registry.h>

#include <memory>
#include <string>
#include <vector>

#include "core/telemetry/metrics.h"

namespace reprise {

class TenantMetrics {
 public:
  explicit TenantMetrics(prometheus::Registry& registry);
  ~TenantMetrics();

  // Only these are counted from now on; called once, before there are requests.
  void SetTenants(const std::vector<std::string>& names);
  void RequestFinished(const RequestSummary& summary);
  void SetNamespaceGauges(const std::vector<NamespaceGauges>& gauges);
  void SegmentOverQuota(const std::string& name);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace reprise
