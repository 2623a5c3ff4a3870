#include "core/kv/eviction_rank.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace reprise {
namespace {

constexpr double kLeastSaved = 0.01;      // of a token
constexpr int64_t kMostReuses = 1 << 20;  // what no piece lives through

}  // namespace

double SecondsSaved(const EvictionFacts& facts, const EvictionCosts& costs) {
  const double middle = facts.depth + facts.tokens / 2.0;
  const double token = 1 + costs.per_depth * middle - costs.load_per_token;
  return std::max(facts.tokens, 1) * std::max(token, kLeastSaved);
}

double EvictionRank(const EvictionFacts& facts, const EvictionCosts& costs,
                    const EvictionOptions& options) {
  if (options.policy == EvictionPolicy::kLru) return facts.last_used_seconds;
  const double reuses = static_cast<double>(std::clamp<int64_t>(facts.reuses, 0, kMostReuses));
  const double value =
      SecondsSaved(facts, costs) / static_cast<double>(std::max<int64_t>(facts.bytes, 1));
  return std::log(value) + std::log(options.first_use_weight + reuses) +
         std::log(2.0) * facts.last_used_seconds / options.half_life_seconds;
}

// The bits of a positive IEEE 754 number ascend as it does, those of a negative one descend.
uint64_t OrderOf(double rank) {
  constexpr uint64_t kSign = uint64_t{1} << 63;
  const auto bits = std::bit_cast<uint64_t>(rank);
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

}  // namespace reprise
