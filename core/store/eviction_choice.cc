#include "core/store/eviction_choice.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace reprise {

EvictionChoice ChooseEvictions(std::vector<EvictionCandidate> candidates, int64_t max_bytes) {
  int64_t bytes = 0;
  std::map<Digest, int64_t> left;  // candidates by identity
  for (const EvictionCandidate& candidate : candidates) {
    bytes += candidate.payload_bytes;
    ++left[candidate.identity];
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const EvictionCandidate& a, const EvictionCandidate& b) {
              return std::tie(a.turn, a.last_used_unix_ms, b.start_position, a.key) <
                     std::tie(b.turn, b.last_used_unix_ms, a.start_position, b.key);
            });
  EvictionChoice choice;
  for (const EvictionCandidate& candidate : candidates) {
    if (bytes - choice.payload_bytes <= max_bytes) break;
    choice.keys.push_back(candidate.key);
    choice.payload_bytes += candidate.payload_bytes;
    if (--left[candidate.identity] == 0) choice.emptied.push_back(candidate.identity);
  }
  return choice;
}

}  // namespace reprise
