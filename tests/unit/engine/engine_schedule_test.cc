// How the engine orders and shares its steps, as requests feel it.
#include <gtest/gtest.h>

#include <vector>

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

}  // namespace
}  // namespace reprise
