// What waits in the engine besides sequences.
//
// Threading  the engine thread owns it, but for what is atomic, and promises.
#pragma once

#include <atomic>
#include <deque>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/engine/cache_namespace.h"
#include "core/engine/engine.h"
#include "core/engine/sequence.h"

namespace reprise {

// An explanation that waits for the embedding thread; `dead`: nobody waits for it.
struct ExplainJob {
  ExplainRequest request;  // without what only the caller may use
  std::atomic<bool> dead{false};
  std::promise<Explanation> explained;
};

// A prompt that was reused and is computed again to be compared.
struct Shadow {
  CacheNamespace* in = nullptr;
  std::vector<TokenId> ids;     // whole blocks
  std::vector<BlockId> reused;  // each with a reference
  std::vector<BlockId> cold;    // private
  int32_t computed = 0;         // tokens
  size_t compared = 0;          // blocks, once all are computed
};

// A segment still to be copied out of its blocks.
struct PendingCopy {
  SegmentRecord record;
  std::vector<BlockId> blocks;  // each with a reference
};

// A caller that waits until what there was when it came is durable.
struct PendingFlush {
  std::promise<bool> done;  // whether the store was on then
  std::deque<std::pair<CacheNamespace*, std::vector<TokenId>>> deferred;  // still to be queued
  std::optional<int64_t> last_copy;  // of its copies, by their number, once all are queued
};

// What the reader has to do or is at.
struct OutstandingLoad {
  std::shared_ptr<LoadAccount> account;
  absl::Duration predicted;
};

// A prompt that is to be found by its meaning.
struct PendingEmbedding {
  CacheNamespace* in = nullptr;
  std::vector<TokenId> ids;
  std::string text;
};

}  // namespace reprise
