// Sampling: how one token is chosen from one row of logits.
//
// The choice is a pure function of (logits, options, history, position): the
// random number comes from a counter generator keyed by (seed, position), so a
// reply does not depend on batch mates or on what ran before it.
// A logit that is not a number counts as the lowest one there is.
// Threading  plain values and pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "core/base/ids.h"

namespace reprise {

struct SamplingOptions {
  float temperature = 0.0f;         // 0 is greedy; ties go to the lowest id
  int32_t top_k = 0;                // keep the k likeliest; 0 keeps all
  float top_p = 1.0f;               // keep the smallest set with this mass; (0, 1]
  float min_p = 0.0f;               // drop below min_p x the likeliest; [0, 1]
  float repetition_penalty = 1.0f;  // divides (or multiplies negative) logits of seen ids; > 0
  float presence_penalty = 0.0f;    // subtracted once from ids generated so far
  float frequency_penalty = 0.0f;   // subtracted per occurrence among generated ids
  uint64_t seed = 0;
};

// Tokens that the penalties look at; views stay valid for the call.
struct SamplingHistory {
  absl::Span<const TokenId> prompt;     // repetition_penalty
  absl::Span<const TokenId> generated;  // all three penalties
};

// Uniform in [0, 1) from (seed, position). Source: splitmix64 finaliser.
double CounterUniform(uint64_t seed, int64_t position);

// The token that follows `position`. `banned` ids are never chosen (ignore_eos).
TokenId SampleToken(absl::Span<const float> logits, const SamplingOptions& options,
                    const SamplingHistory& history, absl::Span<const TokenId> banned,
                    int64_t position);

}  // namespace reprise
