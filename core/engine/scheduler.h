// The scheduler decides what runs in the next step. A pure function: snapshot
// in, plan out; it keeps nothing between calls.
//
// Order      decoding sequences first, one token each; then prompts in chunks until
//            the batch is full. Beside decoding sequences prompts have a smaller
//            budget, so that a long prefill does not hold those up, and where there
//            are rows for more than one sequence, the oldest prompt has one of them.
// Prompts    in order of arrival. Half of the rows go to prompts less than half as
//            long as what the oldest has left, shortest first: they need not wait
//            for it, and it goes on.
// Blocks     when a sequence needs a block and none is left, the youngest
//            running sequence is preempted; what the cache does not keep of it is
//            recomputed later, to the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace reprise {

struct RunningSequence {
  int32_t computed_tokens = 0;  // positions whose KV exists
  int32_t pending_tokens = 0;   // >= 1 tokens to compute; 1 when decoding
  bool decoding = false;
  int32_t held_blocks = 0;
};

struct ScheduleSnapshot {
  std::vector<RunningSequence> running;  // oldest first
  int32_t available_blocks = 0;          // free, or held by the cache alone
  int32_t max_batch_tokens = 0;
  int32_t max_prefill_tokens_beside_decode = std::numeric_limits<int32_t>::max();
};

struct ScheduledChunk {
  size_t sequence = 0;  // index into running
  int32_t tokens = 0;
};

struct SchedulePlan {
  std::vector<ScheduledChunk> chunks;
  std::vector<size_t> preempted;  // youngest first
  bool short_of_blocks = false;   // some were preempted, or go without, for want of blocks
};

SchedulePlan Schedule(const ScheduleSnapshot& snapshot);

// Blocks that `tokens` positions take.
int32_t BlocksFor(int32_t tokens);

}  // namespace reprise
