#include "core/engine/scheduler.h"

#include <algorithm>

#include "core/base/ids.h"

namespace reprise {
namespace {

// Collects rows while blocks and budgets last.
class Planner {
 public:
  explicit Planner(const ScheduleSnapshot& snapshot)
      : snapshot_(snapshot),
        blocks_left_(snapshot.available_blocks),
        rows_left_(snapshot.max_batch_tokens),
        prompt_rows_left_(snapshot.max_batch_tokens),
        alive_(snapshot.running.size()),
        given_(snapshot.running.size(), 0) {}

  SchedulePlan Run() {
    for (size_t i = 0; i < alive_; ++i) {
      (snapshot_.running[i].decoding ? decoding_ : prompts_).push_back(i);
    }
    const int32_t kept = prompts_.empty() || rows_left_ == 1 ? 0 : 1;
    rows_left_ -= kept;
    for (const size_t i : decoding_) Give(i, 1);
    rows_left_ += kept;
    SharePromptRows();
    for (const size_t i : decoding_) Give(i, 1);  // what prompts could not use
    AddChunks(decoding_);
    AddChunks(prompts_);
    return std::move(plan_);
  }

 private:
  const RunningSequence& At(size_t index) const { return snapshot_.running[index]; }
  int32_t Wanted(size_t index) const { return At(index).pending_tokens - given_[index]; }

  // Blocks that are held or promised.
  int32_t Blocks(size_t index, int32_t tokens) const {
    return std::max(BlocksFor(At(index).computed_tokens + tokens), At(index).held_blocks);
  }

  void AddChunks(const std::vector<size_t>& sequences) {
    for (const size_t i : sequences) {
      if (given_[i] > 0) plan_.chunks.push_back({i, given_[i]});
    }
  }

  void SharePromptRows() {
    if (!decoding_.empty()) prompt_rows_left_ = snapshot_.max_prefill_tokens_beside_decode;
    std::vector<size_t> shorter;
    for (const size_t i : prompts_) {
      if (Wanted(i) < Wanted(prompts_[0]) / 2) shorter.push_back(i);
    }
    const auto by_length = [this](size_t a, size_t b) { return Wanted(a) < Wanted(b); };
    std::stable_sort(shorter.begin(), shorter.end(), by_length);
    const int32_t rows = std::min(rows_left_, prompt_rows_left_);
    if (!shorter.empty()) Give(prompts_[0], (rows + 1) / 2);
    for (const size_t i : shorter) Give(i, Wanted(i));
    for (const size_t i : prompts_) Give(i, Wanted(i));
  }

  // Up to `wanted` further rows, all of one sequence's or none: it waits for blocks.
  void Give(size_t index, int32_t wanted) {
    if (index >= alive_) return;
    int32_t rows = std::min({wanted, Wanted(index), rows_left_});
    if (!At(index).decoding) rows = std::min(rows, prompt_rows_left_);
    if (rows <= 0) return;
    const int32_t blocks = Blocks(index, given_[index] + rows) - Blocks(index, given_[index]);
    if (blocks > blocks_left_) plan_.short_of_blocks = true;
    while (blocks > blocks_left_ && alive_ > index + 1) Preempt();
    if (blocks > blocks_left_) return;
    blocks_left_ -= blocks;
    TakeRows(index, rows);
  }

  void TakeRows(size_t index, int32_t rows) {
    given_[index] += rows;
    rows_left_ -= rows;
    if (!At(index).decoding) prompt_rows_left_ -= rows;
  }

  // Takes back the youngest sequence's blocks, with those promised to it.
  void Preempt() {
    --alive_;
    blocks_left_ += Blocks(alive_, given_[alive_]);
    TakeRows(alive_, -given_[alive_]);
    plan_.preempted.push_back(alive_);
  }

  const ScheduleSnapshot& snapshot_;
  int32_t blocks_left_;
  int32_t rows_left_;
  int32_t prompt_rows_left_;
  size_t alive_;                // sequences [0, alive_) are not preempted
  std::vector<int32_t> given_;  // rows by sequence
  std::vector<size_t> decoding_, prompts_;
  SchedulePlan plan_;
};

}  // namespace

int32_t BlocksFor(int32_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

SchedulePlan Schedule(const ScheduleSnapshot& snapshot) { return Planner(snapshot).Run(); }

}  // namespace reprise
