#include "core/telemetry/tenant_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include <set>

namespace reprise {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;

struct TenantMetrics::Impl {
  explicit Impl(prometheus::Registry& registry) : registry(registry) {}

  Family<Counter>& Counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }
  Family<Gauge>& Levels(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
  }

  prometheus::Registry& registry;
  std::set<std::string> tenants;
  Family<Counter>& requests =
      Counters("reprise_tenant_requests_total", "RPCs ended, by tenant and outcome.");
  Family<Counter>& tokens =
      Counters("reprise_tenant_tokens_total", "Prompt and output tokens, by tenant.");
  Family<Gauge>& bytes =
      Levels("reprise_namespace_bytes", "KV bytes that a cache namespace holds, by tier.");
  Family<Gauge>& quotas =
      Levels("reprise_namespace_quota_bytes", "KV bytes that it may hold; only where limited.");
  Family<Counter>& refused = Counters("reprise_namespace_refused_segments_total",
                                      "Segments not written for want of quota.");
};

TenantMetrics::TenantMetrics(prometheus::Registry& registry)
    : impl_(std::make_unique<Impl>(registry)) {}
TenantMetrics::~TenantMetrics() = default;

void TenantMetrics::SetTenants(const std::vector<std::string>& names) {
  impl_->tenants = {names.begin(), names.end()};
}

void TenantMetrics::RequestFinished(const RequestSummary& s) {
  if (!impl_->tenants.contains(s.tenant)) return;
  const char* outcome = s.code == "OK" ? "ok" : "error";
  impl_->requests.Add({{"tenant", s.tenant}, {"outcome", outcome}}).Increment();
  if (s.retrieval_mode.empty()) return;
  const auto count = [&](const char* kind, int32_t tokens) {
    impl_->tokens.Add({{"tenant", s.tenant}, {"kind", kind}}).Increment(tokens);
  };
  count("cached", s.cached_tokens);
  count("computed", s.computed_tokens);
  count("output", s.output_tokens);
}

void TenantMetrics::SetNamespaceGauges(const std::vector<NamespaceGauges>& gauges) {
  for (const NamespaceGauges& g : gauges) {
    impl_->refused.Add({{"namespace", g.name}});  // from the start, for its rate
    const auto set = [&](const char* tier, int64_t bytes, int64_t quota) {
      const prometheus::Labels labels = {{"namespace", g.name}, {"tier", tier}};
      impl_->bytes.Add(labels).Set(static_cast<double>(bytes));
      if (quota > 0) impl_->quotas.Add(labels).Set(static_cast<double>(quota));
    };
    set("host", g.host_bytes, g.host_quota_bytes);
    set("disk", g.disk_bytes, g.disk_quota_bytes);
  }
}

void TenantMetrics::SegmentOverQuota(const std::string& name) {
  impl_->refused.Add({{"namespace", name}}).Increment();
}

}  // namespace reprise
