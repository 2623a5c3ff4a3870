#include "core/engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

#include "core/engine/admission.h"

namespace reprise {

bool operator==(const ScheduledChunk& a, const ScheduledChunk& b) {
  return a.sequence == b.sequence && a.tokens == b.tokens;
}

void PrintTo(const ScheduledChunk& chunk, std::ostream* out) {
  *out << "{" << chunk.sequence << ", " << chunk.tokens << "}";
}

namespace {

struct Case {
  const char* name;
  std::vector<RunningSequence> running;  // {computed, pending, decoding, held blocks}
  int32_t available_blocks, max_batch_tokens;
  std::vector<ScheduledChunk> chunks;
  std::vector<size_t> preempted;
  int32_t beside_decode = std::numeric_limits<int32_t>::max();
};

const Case kCases[] = {
    {"nothing runs", {}, 10, 8, {}, {}},
    {"decoding goes before an older prompt",
     {{0, 20, false, 0}, {16, 1, true, 1}},
     10,
     8,
     {{1, 1}, {0, 7}},
     {}},
    {"a long prompt runs in chunks", {{32, 100, false, 2}}, 10, 24, {{0, 24}}, {}},
    {"a younger prompt takes the rows left",
     {{0, 5, false, 0}, {0, 9, false, 0}, {0, 9, false, 0}},
     10,
     8,
     {{0, 5}, {1, 3}},
     {}},
    {"a block that is held is not asked for again", {{17, 1, true, 2}}, 0, 8, {{0, 1}}, {}},
    {"the youngest gives its blocks to an older one",
     {{16, 1, true, 1}, {5, 1, true, 1}, {6, 1, true, 1}},
     0,
     8,
     {{0, 1}, {1, 1}},
     {2}},
    {"several are preempted, youngest first",
     {{0, 48, false, 0}, {5, 1, true, 1}, {5, 1, true, 1}, {5, 1, true, 1}},
     0,
     64,
     {{0, 48}},
     {3, 2, 1}},
    {"a preempted sequence gives its row back as well",
     {{0, 3, false, 0}, {0, 6, false, 0}, {20, 1, true, 2}},
     0,
     4,
     {{0, 3}, {1, 1}},
     {2}},
    {"the youngest itself waits for blocks",
     {{5, 1, true, 1}, {16, 1, true, 1}},
     0,
     8,
     {{0, 1}},
     {}},
    {"alone and without a block it waits", {{16, 1, true, 1}}, 0, 8, {}, {}},
    {"more decode than there are rows",
     {{1, 1, true, 1}, {1, 1, true, 1}, {1, 1, true, 1}},
     0,
     2,
     {{0, 1}, {1, 1}},
     {}},
    {"the oldest prompt has a row beside ever so many decoding ones",
     {{0, 50, false, 0}, {1, 1, true, 1}, {1, 1, true, 1}, {1, 1, true, 1}},
     9,
     3,
     {{1, 1}, {2, 1}, {0, 1}},
     {}},
    {"a row that no prompt can use goes to a decoding one",
     {{1, 1, true, 1}, {1, 1, true, 1}, {16, 9, false, 1}},
     0,
     2,
     {{0, 1}, {1, 1}},
     {}},
    {"one row alone decodes", {{0, 9, false, 0}, {1, 1, true, 1}}, 9, 1, {{1, 1}}, {}},
    {"a prompt beside decoding ones has the smaller budget",
     {{0, 100, false, 0}, {9, 1, true, 1}},
     10,
     64,
     {{1, 1}, {0, 6}},
     {},
     6},
    {"prompts alone have the whole batch", {{0, 100, false, 0}}, 10, 64, {{0, 64}}, {}, 6},
    {"prompts share the smaller budget in order of arrival",
     {{0, 4, false, 0}, {0, 9, false, 0}, {9, 1, true, 1}},
     10,
     64,
     {{2, 1}, {0, 4}, {1, 3}},
     {},
     7},
    {"short prompts share with a long one, shortest first",
     {{0, 100, false, 0}, {0, 30, false, 0}, {0, 8, false, 0}, {0, 60, false, 0}},
     20,
     40,
     {{0, 20}, {1, 12}, {2, 8}},
     {}},
    {"what short prompts leave goes to the oldest",
     {{0, 100, false, 0}, {0, 5, false, 0}},
     20,
     40,
     {{0, 35}, {1, 5}},
     {}},
    {"a prompt half as long waits", {{0, 100, false, 0}, {0, 50, false, 0}}, 20, 40, {{0, 40}}, {}},
    {"the smallest budget is the oldest's",
     {{0, 100, false, 0}, {0, 5, false, 0}, {9, 1, true, 1}},
     20,
     40,
     {{2, 1}, {0, 1}},
     {},
     1},
};

TEST(SchedulerTest, DecidesByTheTable) {
  for (const Case& c : kCases) {
    const SchedulePlan plan =
        Schedule({c.running, c.available_blocks, c.max_batch_tokens, c.beside_decode});
    EXPECT_EQ(plan.chunks, c.chunks) << c.name;
    EXPECT_EQ(plan.preempted, c.preempted) << c.name;
  }
}

TEST(SchedulerTest, BlocksCoverWholeAndPartFilledOnes) {
  EXPECT_EQ(BlocksFor(0), 0);
  EXPECT_EQ(BlocksFor(1), 1);
  EXPECT_EQ(BlocksFor(16), 1);
  EXPECT_EQ(BlocksFor(17), 2);
}

int32_t Needed(const RunningSequence& sequence, int32_t tokens) {
  return std::max(BlocksFor(sequence.computed_tokens + tokens) - sequence.held_blocks, 0);
}

void ExpectSound(const ScheduleSnapshot& snapshot, const SchedulePlan& plan) {
  const size_t alive = snapshot.running.size() - plan.preempted.size();
  int32_t blocks = snapshot.available_blocks;
  for (size_t i = 0; i < plan.preempted.size(); ++i) {
    ASSERT_EQ(plan.preempted[i], snapshot.running.size() - 1 - i) << "youngest first";
    blocks += snapshot.running[plan.preempted[i]].held_blocks;
  }
  int32_t rows = 0, prompt_rows = 0;
  bool decodes = false;
  std::vector<int32_t> given(snapshot.running.size(), 0);
  for (const ScheduledChunk& chunk : plan.chunks) {
    ASSERT_LT(chunk.sequence, alive);
    ASSERT_EQ(given[chunk.sequence], 0) << "scheduled twice";
    ASSERT_GE(chunk.tokens, 1);
    ASSERT_LE(chunk.tokens, snapshot.running[chunk.sequence].pending_tokens);
    given[chunk.sequence] = chunk.tokens;
    rows += chunk.tokens;
    const bool decoding = snapshot.running[chunk.sequence].decoding;
    decodes = decodes || decoding;
    if (!decoding) prompt_rows += chunk.tokens;
    blocks -= Needed(snapshot.running[chunk.sequence], chunk.tokens);
  }
  ASSERT_LE(rows, snapshot.max_batch_tokens);
  if (decodes) {
    ASSERT_LE(prompt_rows, snapshot.max_prefill_tokens_beside_decode);
  }
  ASSERT_GE(blocks, 0) << "promised more blocks than there are";
  for (size_t i = 0; i < alive; ++i) {
    const RunningSequence& sequence = snapshot.running[i];
    if (!sequence.decoding || given[i] > 0) continue;
    const bool is_youngest = i + 1 == alive;
    ASSERT_TRUE(rows == snapshot.max_batch_tokens || (is_youngest && Needed(sequence, 1) > 0))
        << "sequence " << i << " could have had its token";
  }
}

TEST(SchedulerTest, RandomSnapshotsKeepTheirBudgets) {
  std::mt19937 random(7);
  const auto pick = [&](int from, int to) {
    return std::uniform_int_distribution<int>(from, to)(random);
  };
  int preempted = 0;
  for (int round = 0; round < 20000; ++round) {
    ScheduleSnapshot snapshot;
    snapshot.available_blocks = pick(0, 12);
    snapshot.max_batch_tokens = pick(1, 80);
    snapshot.max_prefill_tokens_beside_decode = pick(1, 40);
    for (int i = pick(0, 8); i > 0; --i) {
      RunningSequence sequence;
      sequence.computed_tokens = pick(0, 100);
      sequence.decoding = sequence.computed_tokens > 0 && pick(0, 1) == 1;
      sequence.pending_tokens = sequence.decoding ? 1 : pick(1, 60);
      sequence.held_blocks = BlocksFor(sequence.computed_tokens);
      snapshot.running.push_back(sequence);
    }
    const SchedulePlan plan = Schedule(snapshot);
    preempted += static_cast<int>(plan.preempted.size());
    ASSERT_NO_FATAL_FAILURE(ExpectSound(snapshot, plan)) << "round " << round;
  }
  EXPECT_GT(preempted, 1000) << "the snapshots were too easy";
}

// Plays the engine's part for requests that come at any time and share nothing; what a
// preempted one computed stays in the cache until others need the blocks.
class Simulation {
 public:
  explicit Simulation(uint32_t seed)
      : random_(seed), pool_(Pick(4, 20)), rows_(Pick(1, 40)), beside_decode_(Pick(1, 20)) {
    free_ = pool_;
  }

  // All requests end within a bound, each step does something, no block gets lost.
  void Run() {
    for (int step = 0; finished_ < kRequests; ++step) {
      ASSERT_LT(step, kMaxSteps) << "somebody starves";
      Arrive();
      Admit();
      ScheduleSnapshot snapshot{{}, Available(), rows_, beside_decode_};
      for (const Job& job : running_) {
        const int pending = job.tokens - job.computed;
        snapshot.running.push_back(
            {job.computed, pending, job.tokens > job.prompt && pending == 1, job.blocks});
      }
      const SchedulePlan plan = Schedule(snapshot);
      ASSERT_NO_FATAL_FAILURE(ExpectSound(snapshot, plan));
      ASSERT_TRUE(running_.empty() || !plan.chunks.empty()) << "nothing moves";
      ASSERT_NO_FATAL_FAILURE(Apply(plan));
      ASSERT_NO_FATAL_FAILURE(ExpectAllBlocksAccountedFor());
    }
    ASSERT_EQ(Available(), pool_);
  }

  int preempted() const { return preempted_; }
  int resumed_from_cache() const { return resumed_from_cache_; }
  int passed_over() const { return passed_over_; }

 private:
  struct Job {
    int id, prompt, total;
    int tokens = 0;    // prompt and output so far
    int computed = 0;  // of them, with KV in `blocks`
    int blocks = 0;    // held
    int cached = 0;    // while queued: blocks that the cache has of it
    bool preempted = false;
    int passed_over = 0;
  };

  static constexpr int kRequests = 40;
  static constexpr int kMaxSteps = 100000;  // pools of one request, each row computed many times

  int Pick(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }

  void Arrive() {
    while (arrived_ < kRequests && Pick(0, 2) > 0) {
      const int total = Pick(2, (pool_ - 1) * 16);
      Job job{arrived_++, Pick(1, total - 1), total};
      job.tokens = job.prompt;
      queued_.push_back(job);
    }
  }

  int Available() const {
    int available = free_;
    for (const Job& job : queued_) available += job.cached;
    return available;
  }

  void Admit() {
    while (!queued_.empty()) {
      std::vector<QueuedRequest> window;
      for (size_t i = 0; i < std::min(queued_.size(), kAdmissionWindow); ++i) {
        const Job& job = queued_[i];
        const int cached = job.preempted ? job.cached * 16 : Pick(0, job.tokens);
        window.push_back({job.tokens, cached, job.preempted, job.passed_over});
      }
      const size_t next = NextToAdmit(window);
      int promised = 0;
      for (const Job& job : running_) promised += BlocksFor(job.tokens) - job.blocks;
      if (Available() - promised < BlocksFor(queued_[next].tokens) + 1) return;
      for (size_t i = 0; i < next; ++i) {
        ASSERT_LE(++queued_[i].passed_over, kMaxPassedOver);
        ++passed_over_;
      }
      Begin(next);
    }
  }

  // Shares what the cache has, but for the last token.
  void Begin(size_t place) {
    Job job = queued_[place];
    queued_.erase(queued_.begin() + static_cast<int>(place));
    job.blocks = std::min(job.cached, (job.tokens - 1) / 16);
    free_ += job.cached - job.blocks;
    job.computed = job.blocks * 16;
    resumed_from_cache_ += job.computed > 0 ? 1 : 0;
    job.cached = 0;
    const auto younger = [](const Job& a, const Job& b) { return a.id < b.id; };
    running_.insert(std::upper_bound(running_.begin(), running_.end(), job, younger), job);
  }

  void TakeBlock() {
    for (Job& job : queued_) {
      if (free_ > 0) break;
      if (job.cached == 0) continue;
      --job.cached;  // the deepest
      ++free_;
    }
    ASSERT_GT(free_, 0);
    --free_;
  }

  void Apply(const SchedulePlan& plan) {
    for (const size_t index : plan.preempted) {
      Job job = running_[index];
      job.cached = job.computed / 16;
      free_ += job.blocks - job.cached;
      job.blocks = job.computed = 0;
      job.preempted = true;
      running_.erase(running_.begin() + static_cast<int>(index));
      queued_.push_front(job);
      ++preempted_;
    }
    for (const ScheduledChunk& chunk : plan.chunks) {
      Job& job = running_[chunk.sequence];
      for (; job.blocks < BlocksFor(job.computed + chunk.tokens); ++job.blocks) {
        ASSERT_NO_FATAL_FAILURE(TakeBlock());
      }
      job.computed += chunk.tokens;
      if (job.computed == job.tokens) ++job.tokens;
    }
    std::erase_if(running_, [this](const Job& job) {
      if (job.tokens < job.total) return false;
      free_ += job.blocks;
      ++finished_;
      return true;
    });
  }

  void ExpectAllBlocksAccountedFor() {
    int blocks = Available();
    for (const Job& job : running_) blocks += job.blocks;
    ASSERT_EQ(blocks, pool_);
    ASSERT_GE(free_, 0);
  }

  std::mt19937 random_;
  int pool_, rows_, beside_decode_, free_ = 0, arrived_ = 0, finished_ = 0;
  int preempted_ = 0, resumed_from_cache_ = 0, passed_over_ = 0;
  std::deque<Job> queued_;    // preempted ones in front
  std::vector<Job> running_;  // oldest first
};

TEST(SchedulerTest, EveryRequestFinishesHoweverSmallThePool) {
  int preempted = 0, resumed_from_cache = 0, passed_over = 0;
  for (uint32_t seed = 0; seed < 100; ++seed) {
    Simulation simulation(seed);
    ASSERT_NO_FATAL_FAILURE(simulation.Run()) << "seed " << seed;
    preempted += simulation.preempted();
    resumed_from_cache += simulation.resumed_from_cache();
    passed_over += simulation.passed_over();
  }
  EXPECT_GT(preempted, 100) << "the pools were too large";
  EXPECT_GT(resumed_from_cache, 30);
  EXPECT_GT(passed_over, 100);
}

}  // namespace
}  // namespace reprise
