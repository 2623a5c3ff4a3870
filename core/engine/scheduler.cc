#include "core/engine/scheduler.h"

#include <algorithm>

#include "core/base/ids.h"

namespace reprise {
namespace {

// Collects chunks while blocks and rows last.
class Planner {
 public:
  explicit Planner(const ScheduleSnapshot& snapshot)
      : snapshot_(snapshot),
        blocks_left_(snapshot.available_blocks),
        rows_left_(snapshot.max_batch_tokens),
        alive_(snapshot.running.size()) {}

  SchedulePlan Run() {
    for (size_t i = 0; i < alive_; ++i) {
      if (snapshot_.running[i].decoding) AddChunk(i, 1);
    }
    for (size_t i = 0; i < alive_; ++i) {
      if (!snapshot_.running[i].decoding) AddChunk(i, snapshot_.running[i].pending_tokens);
    }
    std::erase_if(plan_.chunks, [this](const ScheduledChunk& c) { return c.sequence >= alive_; });
    return std::move(plan_);
  }

 private:
  void AddChunk(size_t index, int32_t wanted) {
    const RunningSequence& sequence = snapshot_.running[index];
    const int32_t tokens = std::min(wanted, rows_left_);
    if (tokens <= 0) return;
    const int32_t blocks =
        std::max(BlocksFor(sequence.computed_tokens + tokens) - sequence.held_blocks, 0);
    while (blocks > blocks_left_ && alive_ > index + 1) Preempt();
    if (blocks > blocks_left_) return;
    blocks_left_ -= blocks;
    rows_left_ -= tokens;
    plan_.chunks.push_back({index, tokens});
  }

  // Takes back the youngest sequence's blocks, with those promised to it.
  void Preempt() {
    --alive_;
    int32_t returned = snapshot_.running[alive_].held_blocks;
    for (const ScheduledChunk& chunk : plan_.chunks) {
      if (chunk.sequence != alive_) continue;
      const RunningSequence& sequence = snapshot_.running[alive_];
      returned = std::max(BlocksFor(sequence.computed_tokens + chunk.tokens), returned);
      rows_left_ += chunk.tokens;
    }
    blocks_left_ += returned;
    plan_.preempted.push_back(alive_);
  }

  const ScheduleSnapshot& snapshot_;
  int32_t blocks_left_;
  int32_t rows_left_;
  size_t alive_;  // sequences [0, alive_) are not preempted
  SchedulePlan plan_;
};

}  // namespace

int32_t BlocksFor(int32_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

SchedulePlan Schedule(const ScheduleSnapshot& snapshot) { return Planner(snapshot).Run(); }

}  // namespace reprise
