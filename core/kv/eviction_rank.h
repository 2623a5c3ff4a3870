// EvictionRank: the order in which cached KV gives way. The lowest rank goes first;
// leaves go before their parents, whatever their ranks.
//
//   rank = ln(seconds saved by a reuse / byte) + ln(chance of one now)
//
// The chance decays exponentially with the time since the last use, so the order of
// two pieces does not depend on the moment: the rank holds until the next use. What
// was never reused is less likely to be than what was: a reuse counts where it leads on to
// something new beside what was there (a template, a system prompt), not where a
// conversation goes on, which says nothing of whether it will once more.
//
// Pure functions: tables in, numbers out; memory and disk rank by the same.
// Source     greedy-dual-size-frequency, Cherkasova 1998, with exponential aging;
//            decay per Alibaba's traces, arXiv 2506.02634.
#pragma once

#include <cstdint>

namespace reprise {

enum class EvictionPolicy {
  kCostAware,  // as above
  kLru,        // least recently used first; to compare
};

struct EvictionOptions {
  EvictionPolicy policy = EvictionPolicy::kCostAware;
  double half_life_seconds = 30;   // of the chance of a reuse, since the last use
  double first_use_weight = 0.25;  // of what was never reused; each reuse adds one
};

// How costs grow, in units of computing one token at position 0.
struct EvictionCosts {
  double per_depth = 0;       // on top for each token before it
  double load_per_token = 0;  // of loading instead; 0 in memory
};

// One cached piece of KV: a block or a segment.
struct EvictionFacts {
  int32_t tokens = 0;  // it holds
  int32_t depth = 0;   // position of the first
  int64_t bytes = 1;
  double last_used_seconds = 0;  // on any clock that all pieces share
  int64_t reuses = 0;            // after which came something else than before
};

// Of a reuse of the piece, in the unit of EvictionCosts; above zero even where loading is no
// faster, so that such pieces stay ordered.
double SecondsSaved(const EvictionFacts& facts, const EvictionCosts& costs);

double EvictionRank(const EvictionFacts& facts, const EvictionCosts& costs,
                    const EvictionOptions& options);

// Ranks as whole numbers of the same order, for PrefixIndex::Touch.
uint64_t OrderOf(double rank);

}  // namespace reprise
