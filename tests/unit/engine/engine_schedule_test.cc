// How the engine orders and shares its steps, as requests feel it.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/engine/admission.h"
#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

constexpr CachePolicy kBypass = CachePolicy::kBypass;

// A model whose decoding step takes as long as twenty further rows.
HarnessOptions Machine() {
  HarnessOptions options;
  options.step_time = absl::Milliseconds(20);
  options.with_similarity = false;
  return options;
}

// Rows of the largest step while one stream decodes beside a prompt of 600 tokens.
int LargestStepBesideDecoding(const HarnessOptions& options) {
  EngineHarness harness(options);
  harness.gate().Close();
  PendingReply stream = harness.Submit(TextRequest("s", 700, kBypass));
  harness.gate().AwaitWaiter();
  harness.gate().LetOnePass();  // its prompt
  harness.gate().AwaitWaiter();
  PendingReply prompt = harness.Submit(TextRequest(Letters(1, 600), 1, kBypass));
  harness.gate().Open();
  EXPECT_TRUE(prompt.reply.get().status.ok());
  const int largest = harness.largest_step();
  EXPECT_TRUE(stream.reply.get().status.ok());
  return largest;
}

TEST(EngineScheduleTest, PrefillLengthensTheStepsOfStreamsByNoMoreThanItMay) {
  struct Case {
    int percent, low, high;  // rows
  };
  for (const Case& c : {Case{100, 10, 25}, Case{50, 5, 13}, Case{1, 2, 2}, Case{5000, 200, 256}}) {
    HarnessOptions options = Machine();
    options.engine.max_decode_slowdown_percent = c.percent;
    const int rows = LargestStepBesideDecoding(options);
    EXPECT_GE(rows, c.low) << c.percent << " %";
    EXPECT_LE(rows, c.high) << c.percent << " %";
  }
}

TEST(EngineScheduleTest, PrefillAloneHasWholeSteps) {
  EngineHarness harness(Machine());
  EXPECT_TRUE(harness.Run(TextRequest(Letters(1, 600), 1, kBypass)).status.ok());
  EXPECT_EQ(harness.steps(), 3);
  EXPECT_EQ(harness.largest_step(), 256);
}

// An older request of another policy needs the blocks of a younger one, which then resumes.
TEST(EngineScheduleTest, PreemptedResumesFromWhatTheCacheStillHolds) {
  struct Case {
    CachePolicy policy;
    const char* kind;
    int low, high;  // rows computed beyond the two prompts, 20 each, of which 140 are output
  };
  for (const Case& c :
       {Case{CachePolicy::kUse, "cache", 0, 40}, Case{CachePolicy::kReadOnly, "recompute", 40, 100},
        Case{kBypass, "recompute", 40, 100}}) {
    HarnessOptions options = Machine();
    options.num_blocks = 10;
    EngineHarness harness(options);
    harness.gate().Close();
    PendingReply older = harness.Submit(TextRequest(Letters(1, 20), 80, kBypass));
    PendingReply younger = harness.Submit(TextRequest(Letters(2, 20), 80, c.policy));
    harness.gate().Open();
    EXPECT_TRUE(older.reply.get().status.ok());
    const Reply reply = younger.reply.get();
    EXPECT_EQ(harness.Metric("reprise_preemptions_total", c.kind), 1);
    const double rows = harness.Metric("reprise_step_prefill_tokens_total") - 40;
    EXPECT_GE(rows, c.low) << c.kind;
    EXPECT_LE(rows, c.high) << c.kind;
    EXPECT_EQ(reply.result.output_ids,
              EngineHarness(Machine()).Run(TextRequest(Letters(2, 20), 80)).result.output_ids);
    EXPECT_EQ(reply.result.usage.cached_tokens, 0) << "it is what the look-up found";
    EXPECT_EQ(reply.result.usage.computed_tokens, 20) << "each position once";
  }
}

TEST(EngineScheduleTest, TraceSaysWhatEachStepDidAndHowLongTheModelTook) {
  HarnessOptions options = Machine();
  options.num_blocks = 10;
  EngineHarness harness(options);
  harness.gate().Close();
  PendingReply older = harness.Submit(TextRequest(Letters(1, 20), 80, kBypass));
  PendingReply younger = harness.Submit(TextRequest(Letters(2, 20), 80, kBypass));
  harness.gate().Open();
  EXPECT_TRUE(older.reply.get().status.ok() && younger.reply.get().status.ok());
  harness.Settle();
  StepTrace sum;
  absl::Duration end;
  for (const StepTrace& step : harness.traces()) {
    EXPECT_GE(step.start, end) << "in order";
    end = step.start + step.schedule_time + step.runner_time;
    const int64_t rows = step.prefill_tokens + step.decode_tokens;
    EXPECT_EQ(step.runner_time, options.step_time + rows * options.token_time);
    EXPECT_LE(step.sequences, rows);
    EXPECT_LE(step.free_blocks, step.available_blocks);
    EXPECT_LT(step.available_blocks, 10);
    sum.prefill_tokens += step.prefill_tokens;
    sum.decode_tokens += step.decode_tokens;
    sum.preempted += step.preempted;
  }
  EXPECT_EQ(harness.traces().size(), static_cast<size_t>(harness.steps()));
  EXPECT_EQ(sum.prefill_tokens, harness.Metric("reprise_step_prefill_tokens_total"));
  EXPECT_EQ(sum.decode_tokens, harness.Metric("reprise_step_decode_tokens_total"));
  EXPECT_EQ(sum.preempted, harness.Metric("reprise_preemptions_total"));
  EXPECT_EQ(sum.preempted, 1);
}

TEST(EngineScheduleTest, RunningSequencesHoldACommonPrefixOnceAndCopyItsLastPart) {
  EngineHarness harness(Machine());
  const std::string known = Letters(1, 70);  // four whole blocks and six tokens
  harness.Run(TextRequest(known, 0));
  EXPECT_EQ(harness.Settle().host_cached_block_count, 5);
  harness.gate().Close();
  std::vector<PendingReply> pending;
  for (const char* rest : {"a", "b", "c"}) {
    pending.push_back(harness.Submit(TextRequest(known + rest, 3)));
    harness.gate().AwaitWaiter();
  }
  harness.gate().LetOnePass();
  harness.gate().AwaitWaiter();
  harness.gate().LetOnePass();
  harness.gate().AwaitWaiter();
  EXPECT_EQ(harness.Metric("reprise_running_sequences"), 3);
  EXPECT_EQ(harness.Metric("reprise_host_used_blocks"), 5 + 3) << "a copy of the last one each";
  harness.gate().Open();
  for (PendingReply& one : pending) {
    EXPECT_EQ(one.reply.get().result.usage.cached_tokens, 70);
  }
}

TEST(EngineScheduleTest, IdenticalPromptsThatRanTogetherAreCachedOnce) {
  EngineHarness harness(Machine());
  harness.gate().Close();
  std::vector<PendingReply> pending;
  for (int i = 0; i < 4; ++i) pending.push_back(harness.Submit(TextRequest(Letters(1, 70), 20)));
  harness.gate().Open();
  for (PendingReply& one : pending) EXPECT_TRUE(one.reply.get().status.ok());
  const CacheStats stats = harness.Settle();
  EXPECT_EQ(stats.host_cached_tokens, 89);  // all but the last one, which nothing followed
  EXPECT_EQ(stats.host_cached_block_count, 6);
  EXPECT_EQ(stats.host_free_block_count, stats.host_block_count - 6);
}

// Ids of requests in the order in which they ended, one running at a time.
class Order {
 public:
  explicit Order(EngineHarness& harness) : harness_(harness) {}

  void Submit(const std::string& name, const std::string& text) {
    GenerationSink sink;
    sink.on_chunk = [](const TokenChunk&) {};
    sink.on_done = [this, name](const absl::Status&, const GenerateResult&) {
      ended_.push_back(name);
    };
    EXPECT_TRUE(harness_.engine().Submit(TextRequest(text, 1), std::move(sink)).ok());
  }

  std::vector<std::string> Await() {
    harness_.gate().Open();
    harness_.Settle();
    return ended_;  // the engine has nothing left that could add to it
  }

 private:
  EngineHarness& harness_;
  std::vector<std::string> ended_;
};

using Names = std::vector<std::string>;

TEST(EngineScheduleTest, PromptsInMemoryGoFirstShortestRestFirst) {
  HarnessOptions options;
  options.engine.max_running_sequences = 1;
  EngineHarness harness(options);
  const std::string known = Letters(1, 160);
  harness.Run(TextRequest(known, 1));
  harness.Settle();
  harness.gate().Close();
  Order order(harness);
  order.Submit("running", "x");
  harness.gate().AwaitWaiter();
  order.Submit("cold", Letters(2, 40));
  order.Submit("warm", known + Letters(3, 60));
  order.Submit("warmer", known + Letters(4, 20));
  order.Submit("cold too", Letters(5, 10));
  EXPECT_EQ(order.Await(), (Names{"running", "warmer", "warm", "cold", "cold too"}));
}

TEST(EngineScheduleTest, ColdPromptIsNotPassedOverForEver) {
  HarnessOptions options;
  options.engine.max_running_sequences = 1;
  EngineHarness harness(options);
  const std::string known = Letters(1, 160);
  harness.Run(TextRequest(known, 1));
  harness.Settle();
  harness.gate().Close();
  Order order(harness);
  order.Submit("running", "x");
  harness.gate().AwaitWaiter();
  order.Submit("cold", Letters(2, 40));
  for (int i = 0; i < 2 * kMaxPassedOver; ++i) order.Submit("warm", known + Letters(3 + i, 20));
  const Names ended = order.Await();
  EXPECT_EQ(std::find(ended.begin(), ended.end(), "cold") - ended.begin(), 1 + kMaxPassedOver);
}

}  // namespace
}  // namespace reprise
