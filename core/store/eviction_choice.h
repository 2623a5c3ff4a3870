// Which segments go when the disk is full. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/store/kv_store.h"

namespace reprise {

enum class EvictionTurn { kExpired, kUsual, kPinned };  // in this order

struct EvictionCandidate {
  SegmentKey key{};
  Digest identity{};
  int32_t start_position = 0;
  int64_t payload_bytes = 0;
  int64_t last_used_unix_ms = 0;
  EvictionTurn turn = EvictionTurn::kUsual;
};

struct EvictionChoice {
  std::vector<SegmentKey> keys;
  int64_t payload_bytes = 0;    // of `keys`
  std::vector<Digest> emptied;  // identities that lose their last candidate
};

inline bool Contains(absl::Span<const Digest> identities, const Digest& identity) {
  return std::find(identities.begin(), identities.end(), identity) != identities.end();
}

// The least recently used of the candidates whose turn is first, as many as must go until at
// most `max_bytes` stay; of those used at the same time, children before their parents. No child
// may have a later turn than its parent.
EvictionChoice ChooseEvictions(std::vector<EvictionCandidate> candidates, int64_t max_bytes);

}  // namespace reprise
