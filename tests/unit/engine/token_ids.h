// Lists of token ids for tests of the caches.
#pragma once

#include <numeric>
#include <vector>

#include "core/base/ids.h"

namespace reprise {

using Ids = std::vector<TokenId>;

// `count` ids that count up from `first`.
inline Ids Range(TokenId first, int count) {
  Ids ids(count);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

inline Ids Joined(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace reprise
