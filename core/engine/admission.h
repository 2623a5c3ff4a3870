// Admission decides which queued request is taken up next. A pure function: a
// window of the queue in, the place of one request out.
//
// Order      preempted ones, which have given output already; then one that was passed
//            over kMaxPassedOver times; then prompts of which at least half is in memory,
//            those with the fewest tokens to compute first, while their blocks are still
//            there; then the others. Equals go in order of arrival.
// Fairness   who is passed over often enough goes before all that came later, so at most
//            kMaxPassedOver later requests get ahead of any.
// Cost       the window bounds it, however long the queue is.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace reprise {

constexpr size_t kAdmissionWindow = 16;  // requests from the front of the queue
constexpr int32_t kMaxPassedOver = 16;

struct QueuedRequest {
  int32_t tokens = 0;         // prompt, and the output of a preempted one
  int32_t cached_tokens = 0;  // the first ones, whose KV is in memory
  bool preempted = false;
  int32_t passed_over = 0;  // times that a later one was taken up before it
};

// The index of the next one in `window`, which holds at least one request, in order of
// arrival with the preempted ones in front.
size_t NextToAdmit(absl::Span<const QueuedRequest> window);

}  // namespace reprise
