// The disk tier under the engine: what is written, what damage and faults do, and
// what is left in the store.
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

constexpr CachePolicy kBypass = CachePolicy::kBypass;
constexpr CachePolicy kForce = CachePolicy::kForce;

using Op = StoreOperation;

std::vector<SegmentRecord> Records(EngineHarness& harness) {
  std::vector<SegmentRecord> records;
  const auto collect = [&](SegmentRecord record) { records.push_back(std::move(record)); };
  EXPECT_TRUE(harness.store().ForEachSegment(EngineHarness::Identity(), collect).ok());
  return records;
}

// Puts another segment's bytes behind the key of `record`.
void Damage(EngineHarness& harness, const SegmentRecord& record) {
  SegmentWrite write{record, std::vector<uint8_t>(record.payload_bytes, 0xAB)};
  write.record.ids[0] ^= 1;
  ASSERT_TRUE(harness.store().WriteSegments({write}).ok());
}

// Caches the prompts and leaves them in the store alone.
void Store(EngineHarness& harness, const std::vector<std::string>& prompts) {
  for (const std::string& prompt : prompts) {
    ASSERT_TRUE(harness.Run(TextRequest(prompt, 0)).status.ok());
  }
  harness.Settle();
  harness.Restart();
}

void ExpectColdOutput(EngineHarness& harness, const Reply& reply, const std::string& prompt) {
  const auto tokens = static_cast<int32_t>(reply.result.output_ids.size());
  EXPECT_TRUE(reply.status.ok()) << reply.status;
  EXPECT_EQ(reply.result.output_ids,
            harness.Run(TextRequest(prompt, tokens, kBypass)).result.output_ids);
}

TEST(EngineStoreTest, DamagedSegmentIsAMissCountedAndRemovedWithWhatHangsBelow) {
  const std::string prompt = Letters(1, 250);
  for (const size_t damaged : {0, 1, 3}) {
    EngineHarness harness;
    Store(harness, {prompt});
    const std::vector<SegmentRecord> records = Records(harness);
    ASSERT_EQ(records.size(), 4u);
    Damage(harness, records[damaged]);
    const Reply reply = harness.Run(TextRequest(prompt, 8, CachePolicy::kReadOnly));
    ExpectColdOutput(harness, reply, prompt);
    EXPECT_EQ(reply.result.usage.cached_tokens, damaged * 64);
    EXPECT_EQ(reply.result.reuse.decision,
              damaged == 0 ? ReuseDecision::kRecomputed : ReuseDecision::kPartial);
    EXPECT_EQ(reply.result.reuse.reason, ReuseReason::kLoadFailed);
    EXPECT_EQ(harness.Metric("reprise_store_corrupt_segments_total"), 1);
    EXPECT_TRUE(harness.Settle().disk_enabled);
    harness.Stop();
    EXPECT_EQ(Records(harness).size(), damaged);
  }
}

TEST(EngineStoreTest, DamagedSegmentIsWrittenAgainByTheNextRequest) {
  const std::string prompt = Letters(1, 150);
  EngineHarness harness;
  Store(harness, {prompt});
  Damage(harness, Records(harness)[1]);
  harness.Run(TextRequest(prompt, 0));
  harness.Settle();
  harness.Restart();
  EXPECT_EQ(harness.Run(TextRequest(prompt, 0)).result.reuse.disk_tokens, 149);
}

TEST(EngineStoreTest, DiskBytesReadEqualTheSumOfTheReplies) {
  EngineHarness harness;
  const std::vector<std::string> prompts = {Letters(1, 150), Letters(2, 64), Letters(3, 10)};
  Store(harness, prompts);
  int64_t read = 0, disk_tokens = 0;
  for (const std::string& prompt : prompts) {
    const Reply reply = harness.Run(TextRequest(prompt + "#", 0, kForce));
    read += reply.result.reuse.disk_bytes_read;
    disk_tokens += reply.result.reuse.disk_tokens;
  }
  EXPECT_EQ(disk_tokens, 150 + 64 + 10);
  EXPECT_EQ(harness.Metric("reprise_store_read_bytes_total"), read);
  EXPECT_EQ(harness.store().Stats().read_bytes, read);
}

TEST(EngineStoreTest, LoadIsNotTakenWhenComputingIsFaster) {
  HarnessOptions options;
  options.token_time = absl::Nanoseconds(10);
  EngineHarness harness(options);
  const std::string prompt = Letters(1, 150);
  Store(harness, {prompt});
  const Reply use = harness.Run(TextRequest(prompt, 4, CachePolicy::kReadOnly));
  EXPECT_EQ(use.result.usage.cached_tokens, 0);
  EXPECT_EQ(use.result.reuse.decision, ReuseDecision::kRecomputed);
  EXPECT_EQ(use.result.reuse.reason, ReuseReason::kSlowerToLoad);
  EXPECT_EQ(use.result.reuse.ideal_tokens, 149);
  const Reply forced = harness.Run(TextRequest(prompt, 4, kForce));
  EXPECT_EQ(forced.result.reuse.disk_tokens, 149);
  EXPECT_EQ(forced.result.output_ids, use.result.output_ids);
}

TEST(EngineStoreTest, FailingReadsFailNoRequestAndSwitchTheStoreOff) {
  EngineHarness harness;
  const std::vector<std::string> prompts = {Letters(1, 100), Letters(2, 100), Letters(3, 100),
                                            Letters(4, 100)};
  Store(harness, prompts);
  harness.faults().Fail(Op::kReadSegment);
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(harness.engine().GetCacheStats().disk_enabled, i < 3);
    const Reply reply = harness.Run(TextRequest(prompts[i], 5, CachePolicy::kReadOnly));
    ExpectColdOutput(harness, reply, prompts[i]);
    EXPECT_EQ(reply.result.usage.cached_tokens, 0);
    EXPECT_EQ(reply.result.reuse.reason, i < 3 ? ReuseReason::kLoadFailed : ReuseReason::kNone);
  }
  EXPECT_EQ(harness.Metric("reprise_store_failures_total", "\"read\""), 3);
  EXPECT_EQ(harness.Metric("reprise_store_enabled"), 0);
  harness.faults().Fail(Op::kReadSegment, 0);
  harness.Restart();
  EXPECT_EQ(harness.Run(TextRequest(prompts[0], 0)).result.reuse.disk_tokens, 99)
      << "what could not be read may be whole";
}

TEST(EngineStoreTest, FailingWritesFailNoRequestAndSwitchTheStoreOff) {
  EngineHarness harness;
  harness.faults().Fail(Op::kWriteSegments);
  for (uint32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(harness.Settle().disk_enabled, i < 3);
    ExpectColdOutput(harness, harness.Run(TextRequest(Letters(i, 100), 5)), Letters(i, 100));
  }
  EXPECT_EQ(harness.Settle().durable_segments, 0);
  EXPECT_EQ(harness.Metric("reprise_store_failures_total", "\"write\""), 3);
  EXPECT_EQ(harness.Metric("reprise_store_enabled"), 0);
  EXPECT_EQ(harness.Run(TextRequest(Letters(0, 100), 0)).result.reuse.host_tokens, 99)
      << "memory goes on";
}

TEST(EngineStoreTest, FailingDeletesAreCountedAsSuch) {
  EngineHarness harness;
  harness.faults().Fail(Op::kDeleteSegments, 1);
  for (const int length : {10, 20}) {  // the second tail supersedes the first
    harness.Run(TextRequest(Letters(1, length), 0));
    harness.Settle();
  }
  harness.Stop();
  EXPECT_EQ(harness.Metric("reprise_store_failures_total", "\"delete\""), 1);
  EXPECT_EQ(harness.Metric("reprise_store_failures_total"), 1);
}

TEST(EngineStoreTest, FailureNowAndThenKeepsTheStoreOn) {
  EngineHarness harness;
  for (uint32_t i = 0; i < 12; ++i) {
    harness.faults().Fail(Op::kWriteSegments, i % 3 == 0 ? 0 : 1);
    harness.Run(TextRequest(Letters(i, 30), 0));
    EXPECT_TRUE(harness.Settle().disk_enabled) << i;
  }
  EXPECT_EQ(harness.Metric("reprise_store_failures_total", "\"write\""), 8);
  EXPECT_EQ(harness.store().Stats().segment_count, 4);
}

TEST(EngineStoreTest, StoreThatCannotListIsSwitchedOff) {
  for (const Op operation : {Op::kListSegments, Op::kListPrompts}) {
    EngineHarness harness;
    harness.faults().Fail(operation);
    harness.Restart();
    EXPECT_FALSE(harness.engine().GetCacheStats().disk_enabled);
    EXPECT_EQ(harness.Metric("reprise_store_failures_total", "\"list\""), 1);
    EXPECT_TRUE(harness.Run(TextRequest("hello", 5)).status.ok());
    harness.Settle();
    EXPECT_EQ(harness.store().Stats().segment_count, 0);
  }
}

TEST(EngineStoreTest, EverythingMayFailAtOnce) {
  EngineHarness harness;
  Store(harness, {Letters(1, 100), Letters(2, 100)});
  for (const Op operation : {Op::kWriteSegments, Op::kReadSegment, Op::kDeleteSegments,
                             Op::kWritePrompt, Op::kListSegments, Op::kListPrompts}) {
    harness.faults().Fail(operation);
  }
  for (uint32_t i = 0; i < 20; ++i) {
    const std::string prompt = Letters(i % 5, 100);
    ExpectColdOutput(harness, harness.Run(TextRequest(prompt, 5, kForce)), prompt);
  }
  harness.Restart();
  EXPECT_TRUE(harness.Run(TextRequest(Letters(1, 100), 5)).status.ok());
}

TEST(EngineStoreTest, LongerTailReplacesAShorterOneInTheStore) {
  EngineHarness harness;
  std::string prompt = Letters(1, 10);
  for (int turn = 0; turn < 10; ++turn) {
    harness.Run(TextRequest(prompt, 0));
    harness.Settle();
    prompt += Letters(turn, 10);
  }
  harness.Stop();  // deletions are done
  const std::vector<SegmentRecord> records = Records(harness);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].ids.size() + records[1].ids.size(), 100u);
}

// Leaves a load of the second half of a 128-token prompt at the gate, cancelled, and
// of its first half the last block evicted, while a prompt that shares only part of
// that block stays in memory.
void CancelLoadAndEvictItsPrefix(EngineHarness& harness, const std::string& prompt) {
  harness.Run(TextRequest(prompt.substr(0, 64), 0, kForce));
  const std::string sharer = prompt.substr(0, 58) + Letters(2, 20);
  harness.Run(TextRequest(sharer, 0));
  harness.Settle();
  harness.faults().gate(Op::kReadSegment).Close();
  PendingReply cancelled = harness.Submit(TextRequest(prompt, 0, kForce));
  harness.faults().gate(Op::kReadSegment).AwaitWaiter();
  harness.engine().Cancel(cancelled.id);
  EXPECT_EQ(cancelled.reply.get().status.code(), absl::StatusCode::kCancelled);
  harness.Run(TextRequest(sharer, 0, CachePolicy::kReadOnly));  // used more recently
  const auto free = static_cast<int>(harness.engine().GetCacheStats().host_free_block_count);
  harness.Run(TextRequest(Letters(3, (free + 1) * kBlockTokens), 0, kBypass));
  EXPECT_EQ(harness.Metric("reprise_host_evicted_blocks_total"), 1);
}

TEST(EngineStoreTest, LoadThatEndsAfterItsPrefixWasEvictedIndexesNothing) {
  HarnessOptions options;
  options.num_blocks = 20;
  options.engine.eviction.policy = EvictionPolicy::kLru;
  EngineHarness harness(options);
  const std::string prompt = Letters(1, 128), other = Letters(4, 10);
  Store(harness, {prompt, other});
  CancelLoadAndEvictItsPrefix(harness, prompt);
  harness.faults().OpenGates();
  ASSERT_EQ(harness.Run(TextRequest(other, 0, kForce)).result.reuse.disk_tokens, 9)
      << "loads end in order";
  const Reply reply = harness.Run(TextRequest(prompt, 8, kForce));
  EXPECT_EQ(reply.result.reuse.host_tokens, 58);
  EXPECT_EQ(reply.result.reuse.disk_tokens, 127 - 58);
  ExpectColdOutput(harness, reply, prompt);
}

TEST(EngineStoreTest, SlowStoreHoldsNoMoreThanTheLimitInMemoryAndTheRestIsWrittenLater) {
  HarnessOptions options;
  options.engine.max_pending_write_bytes = 3 * 256;  // three full segments
  EngineHarness harness(options);
  harness.faults().gate(Op::kWriteSegments).Close();
  for (uint32_t i = 0; i < 6; ++i) {
    EXPECT_TRUE(harness.Run(TextRequest(Letters(i, 64), 0)).status.ok());
    EXPECT_LE(harness.engine().GetCacheStats().pending_write_segments, 3);
  }
  EXPECT_EQ(harness.Metric("reprise_store_skipped_segments_total", "\"queue_full\""), 3);
  harness.faults().OpenGates();
  EXPECT_EQ(harness.Settle().durable_segments, 3);
  for (uint32_t i = 0; i < 6; ++i) {
    harness.Run(TextRequest(Letters(i, 64), 0));
    harness.Settle();
  }
  EXPECT_EQ(harness.Settle().durable_segments, 6);
  EXPECT_EQ(harness.Metric("reprise_store_failures_total"), 0);
  EXPECT_TRUE(harness.Settle().disk_enabled) << "a full queue is no fault of the store";
}

HarnessOptions Selective(absl::Duration flush_after_idle) {
  HarnessOptions options;
  options.engine.write_selectively = true;
  options.engine.flush_after_idle = flush_after_idle;
  return options;
}

// A reply is given before its request has ended in the engine.
void BeIdle(EngineHarness& harness, absl::Duration time) {
  harness.engine().GetCacheStats();
  harness.clock().Advance(time);
}

TEST(EngineStoreTest, AFirstUseIsWrittenOnceTheEngineIsIdleAndASecondAtOnce) {
  EngineHarness harness(Selective(absl::Seconds(10)));
  const std::string prompt = Letters(1, 130);
  harness.Run(TextRequest(prompt, 0));
  EXPECT_EQ(harness.engine().GetCacheStats().pending_write_segments, 0) << "it waits";
  harness.Run(TextRequest(prompt, 0));
  EXPECT_EQ(harness.engine().GetCacheStats().pending_write_segments, 3);
  harness.Run(TextRequest(Letters(2, 64), 0));
  BeIdle(harness, absl::Seconds(11));
  EXPECT_EQ(harness.Settle().durable_segments, 4);
  EXPECT_EQ(harness.Metric("reprise_store_skipped_segments_total"), 0);
}

TEST(EngineStoreTest, AFlushMakesFirstUsesDurableAndHoldsUpNoStep) {
  EngineHarness harness(Selective(absl::Hours(1)));
  for (const uint32_t i : {1, 2}) harness.Run(TextRequest(Letters(i, 256), 0));
  harness.gate().Close();
  PendingReply running = harness.Submit(TextRequest(Letters(3, 16), 64));
  harness.gate().AwaitWaiter();
  std::future<absl::Status> flushed =
      std::async(std::launch::async, [&] { return harness.engine().Flush(); });
  int passes = 0;
  while (flushed.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
    harness.gate().LetOnePass();
    ++passes;
  }
  EXPECT_TRUE(flushed.get().ok());
  harness.gate().Open();
  EXPECT_TRUE(running.reply.get().status.ok());
  EXPECT_EQ(harness.engine().GetCacheStats().durable_segments, 8);
  EXPECT_GT(passes, 8) << "a segment a step";
}

TEST(EngineStoreTest, WhatIsToBeWrittenAtOnceIsHoweverFastItComputes) {
  HarnessOptions options = Selective(absl::Hours(1));
  options.token_time = absl::ZeroDuration();
  EngineHarness harness(options);
  GenerateRequest request = TextRequest(Letters(1, 128), 0);
  request.writes_at_once = true;
  harness.Run(request);
  EXPECT_TRUE(harness.engine().Flush().ok());
  EXPECT_EQ(harness.engine().GetCacheStats().durable_segments, 2);
}

TEST(EngineStoreTest, AFirstUseWhoseBlocksWereEvictedMeanwhileIsSkipped) {
  HarnessOptions options = Selective(absl::Seconds(10));
  options.num_blocks = 12;
  EngineHarness harness(options);
  for (const uint32_t i : {1, 2}) harness.Run(TextRequest(Letters(i, 128), 0));
  BeIdle(harness, absl::Seconds(11));
  const int64_t durable = harness.Settle().durable_segments;
  EXPECT_LT(durable, 4);
  EXPECT_GE(durable, 2);
  EXPECT_GT(harness.Metric("reprise_store_skipped_segments_total", "\"evicted\""), 0);
}

TEST(EngineStoreTest, WhatComputesAsFastAsItLoadsIsNotWritten) {
  HarnessOptions options = Selective(absl::ZeroDuration());
  options.token_time = absl::ZeroDuration();
  EngineHarness harness(options);
  for (int use = 0; use < 2; ++use) harness.Run(TextRequest(Letters(1, 128), 0));
  EXPECT_EQ(harness.Settle().durable_segments, 0);
  EXPECT_EQ(harness.Metric("reprise_store_skipped_segments_total", "\"no_benefit\""), 4);
}

TEST(EngineStoreTest, WhatWaitsIsDurableAfterAnOrderlyEndIfThereIsTime) {
  for (const absl::Duration limit : {absl::Minutes(1), absl::ZeroDuration()}) {
    EngineHarness harness(Selective(absl::Hours(1)));
    harness.Run(TextRequest(Letters(1, 130), 0));
    harness.engine().Drain(limit);
    harness.Stop();
    EXPECT_EQ(harness.store().Stats().segment_count, limit > absl::ZeroDuration() ? 3 : 0);
  }
}

TEST(EngineStoreTest, StoreStaysWithinItsLimitAlsoWhenThatShrinks) {
  HarnessOptions options;
  options.engine.max_disk_bytes = 10 * 256;  // ten full segments
  EngineHarness harness(options);
  for (uint32_t i = 0; i < 30; ++i) {
    harness.Run(TextRequest(Letters(i, 64), 0));
    harness.Settle();
  }
  harness.Stop();
  EXPECT_EQ(harness.store().Stats().payload_bytes, 10 * 256);
  EXPECT_EQ(harness.Metric("reprise_store_evicted_segments_total"), 20);
  harness.options().engine.max_disk_bytes = 3 * 256;
  harness.Start();
  harness.Stop();
  EXPECT_EQ(harness.store().Stats().payload_bytes, 3 * 256);
}

TEST(EngineStoreTest, WhatOtherIdentitiesLeftCountsAgainstTheLimitAndGoesFirst) {
  HarnessOptions options;
  options.engine.max_disk_bytes = 10 * 256;  // ten full segments
  EngineHarness harness(options);
  harness.Stop();
  SegmentWrite foreign;
  foreign.record.identity.fill(1);
  foreign.record.last_used_unix_ms = std::numeric_limits<int64_t>::max();
  foreign.payload.resize(256);
  for (uint8_t i = 0; i < 9; ++i) {
    foreign.record.key.fill(100 + i);
    ASSERT_TRUE(harness.store().WriteSegments({foreign}).ok());
  }
  harness.Start();
  for (uint32_t i = 0; i < 10; ++i) {
    harness.Run(TextRequest(Letters(i, 64), 0));
    harness.Settle();
    harness.Restart();
    EXPECT_LE(harness.store().Stats().payload_bytes, 10 * 256);
    EXPECT_EQ(Records(harness).size(), i + 1) << "its own stay while others can go";
  }
  EXPECT_EQ(harness.Metric("reprise_store_evicted_segments_total"), 9);
}

TEST(EngineStoreTest, EvictionGoesOnByLastUseAfterARestartWhicheverTierWasHit) {
  for (const bool from_memory : {true, false}) {
    EngineHarness harness;
    const auto prompt = [](uint32_t i) { return Letters(i, 64); };
    for (uint32_t i = 0; i < 6; ++i) {
      harness.Run(TextRequest(prompt(i), 0));
      harness.Settle();
    }
    if (!from_memory) harness.Restart();
    harness.clock().Advance(absl::Seconds(1));
    for (const uint32_t used : {4, 1}) harness.Run(TextRequest(prompt(used), 0, kForce));
    harness.Settle();
    harness.Stop();
    harness.options().engine.max_disk_bytes = 2 * 256;  // two full segments
    harness.Start();
    harness.Restart();
    for (uint32_t i = 0; i < 6; ++i) {
      const Reply reply = harness.Run(TextRequest(prompt(i), 0, CachePolicy::kReadOnly));
      EXPECT_EQ(reply.result.reuse.disk_tokens, i == 4 || i == 1 ? 63 : 0) << i;
    }
  }
}

TEST(EngineStoreTest, UnreachableSegmentsAreRemovedAtTheStart) {
  EngineHarness harness;
  Store(harness, {Letters(1, 200), Letters(2, 64)});
  const std::vector<SegmentRecord> records = Records(harness);
  std::set<SegmentKey> whole;
  SegmentKey root{};
  for (const SegmentRecord& record : records) {
    const bool of_first = record.start_position > 0 || record.ids[0] == Letters(1, 1)[0];
    if (!of_first) whole.insert(record.key);
    if (of_first && record.start_position == 0) root = record.key;
  }
  ASSERT_EQ(whole.size(), 1u);
  ASSERT_TRUE(harness.store().DeleteSegments({root}).ok());
  harness.Restart();
  harness.Stop();
  const std::vector<SegmentRecord> left = Records(harness);
  ASSERT_EQ(left.size(), 1u);
  EXPECT_TRUE(whole.contains(left[0].key));
}

}  // namespace
}  // namespace reprise
