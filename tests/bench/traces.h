// Two shapes of traffic, made up from the figures that published traces have in
// common (Mooncake, Alibaba, WildChat; docs/cache.md): conversations, and calls of a
// few templates. The same seed gives the same trace on every machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/ids.h"

namespace reprise::bench {

struct TraceRequest {
  double seconds = 0;  // of its arrival
  std::vector<TokenId> prompt;
  std::vector<TokenId> output;
};

struct TraceOptions {
  int requests = 10000;
  uint64_t seed = 1;
  int context_length = 8192;
  double sessions_per_second = 0.5;  // chat
  double calls_per_second = 2;       // api
};

// Sessions of 1 + Geometric turns (mean 2.5 in all) behind one of 20 system prompts
// (Zipf 1.0), with log-normal turns, replies and thinking times.
std::vector<TraceRequest> ChatTrace(const TraceOptions& options);

// Calls of 8 templates (Zipf 1.2) of 512 to 2048 tokens with 20 to 200 tokens of their own,
// in bursts: Gamma arrivals with a coefficient of variation of 3.
std::vector<TraceRequest> ApiTrace(const TraceOptions& options);

}  // namespace reprise::bench
