// Pins and expiries of cached entries, in both tiers.
#include <gtest/gtest.h>

#include <future>

#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

HarnessOptions SmallPool() {
  HarnessOptions options;
  options.num_blocks = 16;
  options.with_similarity = false;
  options.engine.eviction.policy = EvictionPolicy::kLru;
  options.engine.max_disk_bytes = 2048;  // two segments' payload of the scripted runner is 512
  return options;
}

EntryMark MarkOf(const std::string& text) {
  EntryMark mark;
  mark.ids.assign(text.begin(), text.end());
  return mark;
}

class EngineMarksTest : public testing::Test {
 protected:
  void Pin(const std::string& text, bool pinned) {
    EntryMark mark = MarkOf(text);
    mark.pinned = pinned;
    const auto marked = engine_.engine().MarkEntry(mark);
    ASSERT_TRUE(marked.ok()) << marked.status();
  }
  // Of `text`, by a request that caches nothing.
  Reuse ReusedNow(const std::string& text) {
    return engine_.Run(TextRequest(text, 0, CachePolicy::kReadOnly)).result.reuse;
  }
  // In memory, where a pinned segment is pinned again once something loads it, or on disk.
  int32_t KeptTokens() {
    const Reuse reuse = ReusedNow(kept_);
    return reuse.host_tokens + reuse.disk_tokens;
  }
  void Churn() {
    for (uint32_t seed = 50; seed < 60; ++seed) {
      engine_.Run(TextRequest(Letters(seed, 128), 0));
      engine_.Settle();
    }
  }

  EngineHarness engine_{SmallPool()};
  const std::string kept_ = Letters(1, 64), other_ = Letters(2, 64);
};

TEST_F(EngineMarksTest, PinnedEntriesOutliveTheChurnInMemoryAndOnDisk) {
  engine_.Run(TextRequest(kept_, 0));
  engine_.Run(TextRequest(other_, 0));
  engine_.Settle();
  Pin(kept_, true);
  Churn();
  EXPECT_EQ(ReusedNow(other_).host_tokens, 0);
  EXPECT_EQ(ReusedNow(kept_).host_tokens, 63);
  engine_.Restart();
  Churn();  // the pin in the store is known again
  EXPECT_EQ(KeptTokens(), 63);
  Pin(kept_, false);
  Churn();
  engine_.Restart();
  EXPECT_LT(ReusedNow(kept_).disk_tokens, 8) << "letters that another prompt shares";
}

TEST_F(EngineMarksTest, ExpiredEntriesAreInNoTier) {
  engine_.Run(TextRequest(kept_, 0));
  engine_.Run(TextRequest(other_, 0));
  engine_.Settle();
  EntryMark mark = MarkOf(kept_);
  mark.ttl = absl::Seconds(10);
  ASSERT_TRUE(engine_.engine().MarkEntry(mark).ok());
  EXPECT_EQ(ReusedNow(kept_).host_tokens, 63);
  engine_.clock().Advance(absl::Seconds(11));
  engine_.Settle();
  EXPECT_EQ(ReusedNow(kept_).ideal_tokens, 0);
  EXPECT_EQ(ReusedNow(other_).host_tokens, 63);
  engine_.Restart();
  EXPECT_EQ(ReusedNow(kept_).ideal_tokens, 0);
}

TEST_F(EngineMarksTest, AMarkMadeBeforeTheEntryIsStoredHoldsInTheStoreToo) {
  engine_.faults().Fail(StoreOperation::kWriteSegments, 1);
  engine_.Run(TextRequest(kept_, 0));
  engine_.Settle();
  EntryMark mark = MarkOf(kept_);
  mark.ttl = absl::Seconds(10);
  const auto marked = engine_.engine().MarkEntry(mark);
  ASSERT_TRUE(marked.ok()) << marked.status();
  EXPECT_EQ(marked->disk_tokens, 0);
  engine_.Run(TextRequest(kept_, 0));  // written now
  engine_.Settle();
  engine_.Restart();
  EXPECT_EQ(ReusedNow(kept_).disk_tokens, 63);
  engine_.clock().Advance(absl::Seconds(11));
  engine_.Settle();
  EXPECT_EQ(ReusedNow(kept_).ideal_tokens, 0) << "neither in the store nor as it was loaded";
  engine_.Run(TextRequest(other_, 0));
  engine_.Settle();
  EXPECT_EQ(ReusedNow(other_).host_tokens, 63);
}

TEST_F(EngineMarksTest, APinMadeBeforeTheEntryIsStoredHoldsUntilItIsTakenBack) {
  engine_.faults().Fail(StoreOperation::kWriteSegments, 1);
  const std::string begins = kept_.substr(0, 48);  // a part of its segment
  engine_.Run(TextRequest(begins, 0));
  engine_.Settle();
  Pin(begins, true);
  engine_.Run(TextRequest(kept_, 0));
  engine_.Settle();
  engine_.Restart();
  Churn();
  EXPECT_EQ(KeptTokens(), 63);
  Churn();
  EXPECT_EQ(ReusedNow(kept_).host_tokens, 63) << "loaded, it is pinned again";
  Pin(begins, false);
  Churn();
  EXPECT_LT(ReusedNow(kept_).ideal_tokens, 8);
  EXPECT_EQ(engine_.Settle().host_available_block_count, 16);
}

TEST_F(EngineMarksTest, AMarkIsDurableWhenItIsAnsweredAndTriedAgainWhenItFailed) {
  engine_.Run(TextRequest(kept_, 0));
  engine_.Settle();
  EntryMark mark = MarkOf(kept_);
  mark.pinned = true;
  const auto stored_pins = [this] {
    int pins = 0;
    EXPECT_TRUE(engine_.store()
                    .ForEachSegment(EngineHarness::Identity(),
                                    [&](const SegmentRecord& each) { pins += each.pinned ? 1 : 0; })
                    .ok());
    return pins;
  };
  engine_.faults().Fail(StoreOperation::kUpdateUsage, 1);
  EXPECT_TRUE(absl::IsUnavailable(engine_.engine().MarkEntry(mark).status()));
  ASSERT_TRUE(engine_.engine().Flush().ok());
  EXPECT_EQ(stored_pins(), 1);
  Pin(kept_, false);
  EXPECT_EQ(stored_pins(), 0);
}

TEST_F(EngineMarksTest, AMarkWaitsForWhatIsOnItsWayToTheStore) {
  Gate& gate = engine_.faults().gate(StoreOperation::kWriteSegments);
  gate.Close();
  engine_.Run(TextRequest(kept_, 0));
  gate.AwaitWaiter();
  auto pinned = std::async(std::launch::async, [&] { Pin(kept_, true); });
  gate.Open();
  pinned.get();
  engine_.Restart();
  Churn();
  EXPECT_EQ(KeptTokens(), 63);
}

TEST_F(EngineMarksTest, NothingIsPurgedWhileTheStoreIsOff) {
  engine_.Run(TextRequest(kept_, 0));
  engine_.Settle();
  engine_.faults().Fail(StoreOperation::kWriteSegments, 3);
  for (const uint32_t seed : {6, 7, 8}) {
    engine_.Run(TextRequest(Letters(seed, 64), 0));
    engine_.Settle();
  }
  const std::vector<TokenId> ids = MarkOf(kept_).ids;
  EXPECT_TRUE(absl::IsFailedPrecondition(engine_.engine().PurgeEntry("", ids).status()));
  EXPECT_GT(ReusedNow(kept_).host_tokens, 0);
}

TEST_F(EngineMarksTest, RefusesWhatItCannotMark) {
  const auto code = [this](const EntryMark& mark) {
    return engine_.engine().MarkEntry(mark).status().code();
  };
  EXPECT_EQ(code({}), absl::StatusCode::kInvalidArgument);
  EntryMark mark = MarkOf(kept_);
  EXPECT_EQ(code(mark), absl::StatusCode::kNotFound);
  mark.ttl = absl::ZeroDuration();
  EXPECT_EQ(code(mark), absl::StatusCode::kInvalidArgument);
  const std::string large = Letters(3, 160);
  engine_.Run(TextRequest(large, 0));
  mark = MarkOf(large);
  mark.pinned = true;
  EXPECT_EQ(code(mark), absl::StatusCode::kResourceExhausted) << "10 of 16 blocks";
}

TEST_F(EngineMarksTest, APinMovesToTheLongerEntryThatTakesItsPlace) {
  const std::string text = Letters(4, 40);
  engine_.Run(TextRequest(text, 0));
  Pin(text, true);
  engine_.Run(TextRequest(text + Letters(5, 10), 0));
  Churn();
  EXPECT_EQ(ReusedNow(text + "#").host_tokens, 40);
  Pin(text, false);
  Churn();
  EXPECT_EQ(ReusedNow(text + "#").host_tokens, 0);
  EXPECT_EQ(engine_.Settle().host_available_block_count, 16);
}

}  // namespace
}  // namespace reprise
