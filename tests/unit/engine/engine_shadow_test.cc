// Reused KV that is computed again while the engine is idle, and compared.
#include <gtest/gtest.h>

#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

constexpr const char* kVerifications = "reprise_shadow_verifications_total";

HarnessOptions Options(int percent) {
  HarnessOptions options;
  options.with_similarity = false;
  options.engine.shadow_verify_percent = percent;
  return options;
}

TEST(EngineShadowTest, TheShareOfHitsThatIsAskedForIsComparedAndLeavesNothingBehind) {
  EngineHarness engine(Options(50));
  const std::string prompt = Letters(1, 200);
  engine.Run(TextRequest(prompt, 0));
  for (int i = 0; i < 8; ++i) {
    engine.Run(TextRequest(prompt, 0));
    engine.Settle();
  }
  engine.Run(TextRequest(Letters(2, 200), 0));  // a miss is not compared
  EXPECT_EQ(engine.Settle().host_available_block_count, 256);
  EXPECT_EQ(engine.Metric(kVerifications, "match"), 4);
  EXPECT_EQ(engine.Metric(kVerifications, "mismatch"), 0);
  EXPECT_TRUE(engine.events().empty());
}

TEST(EngineShadowTest, NothingIsComparedUnlessItIsAskedFor) {
  EngineHarness engine(Options(0));
  for (int i = 0; i < 3; ++i) engine.Run(TextRequest(Letters(1, 200), 0));
  engine.Settle();
  EXPECT_EQ(engine.Metric(kVerifications), 0);
}

// KV that every checksum calls right and that is not what the model computes.
TEST(EngineShadowTest, AMismatchIsCountedToldAndReusedNoMore) {
  EngineHarness engine(Options(100));
  const std::string prompt = Letters(1, 128);
  engine.Run(TextRequest(prompt, 0));
  engine.Settle();
  std::vector<SegmentWrite> writes;
  const auto collect = [&](SegmentRecord record) { writes.push_back({std::move(record), {}}); };
  ASSERT_TRUE(engine.store().ForEachSegment(EngineHarness::Identity(), collect).ok());
  ASSERT_EQ(writes.size(), 2u);
  for (SegmentWrite& write : writes) {
    write.payload.resize(static_cast<size_t>(write.record.payload_bytes));
    ASSERT_TRUE(engine.store().ReadSegment(write.record, absl::MakeSpan(write.payload)).ok());
  }
  writes[1].payload[20] ^= 1;
  ASSERT_TRUE(engine.store().WriteSegments(writes).ok());
  engine.Restart();
  EXPECT_EQ(engine.Run(TextRequest(prompt, 0, CachePolicy::kForce)).result.reuse.disk_tokens, 127);
  engine.Settle();
  EXPECT_EQ(engine.Metric(kVerifications, "mismatch"), 1);
  EXPECT_EQ(engine.events(), std::vector<std::string>{"shadow_mismatch"});
  EXPECT_EQ(engine.Run(TextRequest(prompt, 0, CachePolicy::kForce)).result.reuse.ideal_tokens, 0);
}

TEST(EngineShadowTest, RequestsComeFirst) {
  HarnessOptions options = Options(100);
  options.num_blocks = 64;
  EngineHarness engine(options);
  const std::string prompt = Letters(1, 96);
  engine.Run(TextRequest(prompt, 0));
  engine.Run(TextRequest(prompt, 0));
  // It needs the blocks that the comparison holds.
  const Reply large = engine.Run(TextRequest(Letters(2, 990), 8));
  EXPECT_TRUE(large.status.ok()) << large.status;
  engine.Settle();
  EXPECT_EQ(engine.Metric(kVerifications, "mismatch"), 0);
  EXPECT_EQ(engine.Metric(kVerifications), 1);
}

// What comparisons hold is given back before a stream stands still or is preempted.
TEST(EngineShadowTest, StreamsThatGrowComeBeforeComparisons) {
  for (const int streams : {1, 2}) {
    HarnessOptions options = Options(100);
    options.num_blocks = 64;
    EngineHarness engine(options);
    const auto prompt = [](int i) {
      return TextRequest(Letters(static_cast<uint32_t>(i), 128), 0);
    };
    for (int i = 1; i <= 6; ++i) engine.Run(prompt(i));
    engine.Settle();
    engine.gate().Close();
    std::vector<PendingReply> pending;
    for (int i = 0; i < streams; ++i) {
      const std::string text = Letters(static_cast<uint32_t>(100 + i), 16);
      pending.push_back(engine.Submit(TextRequest(text, 480 / streams)));  // half of the pool
    }
    for (int i = 1; i <= 6; ++i) pending.push_back(engine.Submit(prompt(i)));  // three quarters
    engine.gate().Open();
    for (PendingReply& each : pending) EXPECT_TRUE(each.reply.get().status.ok());
    engine.Settle();
    EXPECT_EQ(engine.Metric("reprise_preemptions_total"), 0) << streams;
    EXPECT_GT(engine.Metric(kVerifications, "skipped"), 0) << streams;
    EXPECT_GT(engine.Metric(kVerifications, "match"), 0) << "no more are skipped than need be";
    EXPECT_EQ(engine.Metric(kVerifications), 6) << streams;
  }
}

}  // namespace
}  // namespace reprise
