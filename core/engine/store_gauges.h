// What the store says of itself, as the metrics take it.
#pragma once

#include "core/store/kv_store.h"
#include "core/telemetry/metrics.h"

namespace reprise {

inline StoreGauges ToStoreGauges(bool enabled, const StoreStats& stats) {
  StoreGauges gauges;
  gauges.enabled = enabled;
  gauges.segments = stats.segment_count;
  gauges.payload_bytes = stats.payload_bytes;
  gauges.disk_bytes = stats.disk_bytes;
  gauges.buffer_bytes = stats.buffer_bytes;
  gauges.limit_bytes = stats.limit_bytes;
  gauges.free_bytes = stats.free_bytes;
  return gauges;
}

}  // namespace reprise
