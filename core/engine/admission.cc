#include "core/engine/admission.h"

#include <algorithm>
#include <utility>

namespace reprise {
namespace {

// Smaller goes first.
std::pair<int, int32_t> Rank(const QueuedRequest& request) {
  if (request.preempted) return {0, 0};
  if (request.passed_over >= kMaxPassedOver) return {1, 0};
  const int32_t to_compute = request.tokens - request.cached_tokens;
  if (request.cached_tokens >= to_compute) return {2, to_compute};
  return {3, 0};
}

}  // namespace

size_t NextToAdmit(absl::Span<const QueuedRequest> window) {
  const auto earlier = [](const QueuedRequest& a, const QueuedRequest& b) {
    return Rank(a) < Rank(b);
  };
  return std::min_element(window.begin(), window.end(), earlier) - window.begin();
}

}  // namespace reprise
