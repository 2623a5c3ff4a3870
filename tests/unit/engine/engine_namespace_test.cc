// Tenants: each finds its own cache and nothing of the others', and none takes more than its quota.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Prompts of about five blocks that begin with another letter each.
std::string Prompt(int number) { return Letters(static_cast<uint32_t>(number) + 1, 80); }

GenerateRequest Of(const std::string& tenant, const std::string& text, int32_t output = 4) {
  GenerateRequest request = TextRequest(text, output);
  request.tenant = tenant;
  return request;
}

Digest IdentityOf(uint8_t number) {
  Digest identity;
  identity.fill(number);
  return identity;
}

// alice and bob have a cache each, carl and dora share one.
HarnessOptions Options(const CacheQuota& alice = {}) {
  HarnessOptions options;
  options.namespaces = {{"alice", EngineHarness::Identity(), alice, {"alice"}},
                        {"bob", IdentityOf(8), {}, {"bob"}},
                        {"pool:cd", IdentityOf(9), {}, {"carl", "dora"}}};
  return options;
}

int64_t BlockBytes() { return EngineHarness().engine().GetCacheStats().host_block_bytes; }

NamespaceStats StatsOf(EngineHarness& harness, const std::string& name) {
  for (const NamespaceStats& in : harness.engine().GetCacheStats().namespaces) {
    if (in.name == name) return in;
  }
  return {};
}

TEST(EngineNamespaceTest, ATenantReusesItsOwnAndNothingOfOthersInAnyTierOrMode) {
  EngineHarness harness(Options());
  harness.Run(Of("alice", Prompt(1)));
  harness.Run(Of("carl", Prompt(2)));
  harness.Settle();
  for (const bool restarted : {false, true}) {
    if (restarted) harness.Restart();
    for (const RetrievalMode mode :
         {RetrievalMode::kPrefix, RetrievalMode::kHybrid, RetrievalMode::kSemantic}) {
      GenerateRequest request = Of("bob", Prompt(1));
      request.cache_policy = CachePolicy::kReadOnly;
      request.retrieval_mode = mode;
      const Reply reply = harness.Run(request);
      ASSERT_TRUE(reply.status.ok()) << reply.status;
      EXPECT_EQ(reply.result.usage.cached_tokens, 0);
      EXPECT_EQ(reply.result.reuse.ideal_tokens, 0);
      EXPECT_EQ(reply.result.reuse.miss_reason, mode == RetrievalMode::kSemantic
                                                    ? MissReason::kNoCandidate
                                                    : MissReason::kCacheEmpty)
          << "not even that something is cached";
      EXPECT_FALSE(reply.result.reuse.candidate.has_value());
    }
    ExplainRequest explain{"bob", TextRequest(Prompt(1), 0).prompt, Prompt(1), {}, {}};
    const auto explanation = harness.engine().Explain(explain);
    ASSERT_TRUE(explanation.ok());
    EXPECT_EQ(explanation->host_tokens + explanation->disk_tokens + explanation->ideal_tokens, 0);
    EXPECT_FALSE(explanation->nearest.has_value());
    explain.tenant = "alice";
    EXPECT_EQ(harness.engine().Explain(explain)->disk_tokens, 79);
    EXPECT_EQ(harness.Run(Of("alice", Prompt(1))).result.usage.cached_tokens, 79);
    EXPECT_EQ(harness.Run(Of("dora", Prompt(2))).result.usage.cached_tokens, 79) << "one pool";
    harness.Settle();
  }
}

TEST(EngineNamespaceTest, AVectorIndexIsRebuiltFromTheStoreForEachNamespace) {
  EngineHarness harness(Options());
  harness.Run(Of("bob", Prompt(1)));
  harness.Settle();
  harness.Restart();
  const auto explanation =
      harness.engine().Explain({"bob", TextRequest(Prompt(1), 0).prompt, Prompt(1), {}, {}});
  ASSERT_TRUE(explanation.ok());
  ASSERT_TRUE(explanation->nearest.has_value());
  EXPECT_EQ(explanation->nearest->common_tokens, 80);
}

TEST(EngineNamespaceTest, ATenantWithoutANamespaceIsRefused) {
  EngineHarness harness(Options());
  for (const char* tenant : {"", "mallory", "pool:cd"}) {
    EXPECT_TRUE(absl::IsPermissionDenied(harness.Refusal(Of(tenant, Prompt(1))))) << tenant;
    EXPECT_TRUE(
        absl::IsPermissionDenied(harness.engine().Explain({tenant, {1}, "", {}, {}}).status()));
    EXPECT_TRUE(
        absl::IsPermissionDenied(harness.engine().MarkEntry({tenant, {1}, true, {}}).status()));
  }
}

TEST(EngineNamespaceTest, WhatCanNeverFitTheQuotaIsRefusedByFieldValueAndLimit) {
  const int64_t block = BlockBytes();
  EngineHarness harness(Options({.host_bytes = 8 * block}));
  EXPECT_TRUE(harness.Run(Of("alice", Letters(1, 100), 12)).status.ok()) << "112 tokens and a copy";
  const absl::Status status = harness.Refusal(Of("alice", Letters(1, 100), 13));
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(absl::StrCat("need ", 9 * block)),
                    HasSubstr(absl::StrCat("at most ", 8 * block)),
                    HasSubstr("tenants[].max_host_bytes"), HasSubstr("alice")));
  EXPECT_TRUE(harness.Run(Of("bob", Letters(1, 100), 13)).status.ok());
}

TEST(EngineNamespaceTest, AHostQuotaHoldsWhileRequestsRunAndSpillsOnNobody) {
  const int64_t block = BlockBytes();
  HarnessOptions options = Options({.host_bytes = 16 * block});
  options.num_blocks = 64;
  EngineHarness harness(options);
  harness.Run(Of("bob", Prompt(100)));
  std::vector<PendingReply> pending;
  for (int i = 0; i < 24; ++i) pending.push_back(harness.Submit(Of("alice", Prompt(i), 16)));
  int64_t most = 0;
  for (PendingReply& each : pending) {
    while (each.reply.wait_for(std::chrono::milliseconds(0)) != std::future_status::ready) {
      most = std::max(most, StatsOf(harness, "alice").host_bytes);
    }
    EXPECT_TRUE(each.reply.get().status.ok());
    most = std::max(most, StatsOf(harness, "alice").host_bytes);
  }
  EXPECT_LE(most, 16 * block);
  EXPECT_GT(most, 8 * block) << "the quota is used";
  EXPECT_EQ(harness.Run(Of("bob", Prompt(100))).result.usage.cached_tokens, 79);
}

TEST(EngineNamespaceTest, WhoWaitsForItsOwnQuotaHoldsUpNobodyElse) {
  const int64_t block = BlockBytes();
  EngineHarness harness(Options({.host_bytes = 8 * block}));
  harness.gate().Close();
  PendingReply first = harness.Submit(Of("alice", Letters(1, 16), 90));
  PendingReply second = harness.Submit(Of("alice", Letters(2, 16), 90));  // no room beside it
  PendingReply other = harness.Submit(Of("bob", Letters(3, 8), 1));
  // Until the end of alice's first is near, for which the second waits.
  while (other.reply.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready &&
         harness.steps() < 80) {
    harness.gate().AwaitWaiter();
    harness.gate().LetOnePass();
  }
  ASSERT_EQ(other.reply.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_TRUE(other.reply.get().status.ok());
  harness.gate().Open();
  EXPECT_TRUE(first.reply.get().status.ok());
  EXPECT_TRUE(second.reply.get().status.ok());
  EXPECT_LE(StatsOf(harness, "alice").host_bytes, 8 * block);
}

TEST(EngineNamespaceTest, ATenantThatFillsTheQueueGivesWayUntilOthersHoldAsMuch) {
  HarnessOptions options = Options({.host_bytes = 8 * BlockBytes()});
  options.engine.max_queued_requests = 4;
  EngineHarness harness(options);
  harness.gate().Close();
  std::vector<PendingReply> alice, bob;
  const auto submit = [&](const std::string& tenant, std::vector<PendingReply>& to) {
    to.push_back(harness.Submit(Of(tenant, Letters(1, 80), 16)));
  };
  submit("alice", alice);
  harness.gate().AwaitWaiter();
  for (int i = 0; i < 4; ++i) submit("alice", alice);  // one runs, four wait for its quota
  EXPECT_TRUE(absl::IsResourceExhausted(harness.Refusal(Of("alice", Prompt(1)))));
  for (int i = 0; i < 2; ++i) submit("bob", bob);
  harness.gate().Open();
  for (PendingReply& each : bob) EXPECT_TRUE(each.reply.get().status.ok());
  for (size_t i = 0; i < alice.size(); ++i) {
    EXPECT_EQ(alice[i].reply.get().status.code(),
              i < 3 ? absl::StatusCode::kOk : absl::StatusCode::kResourceExhausted)
        << i;
  }
}

TEST(EngineNamespaceTest, PinsThatLeaveTooLittleOfAQuotaRefuseWhatWouldWaitForEver) {
  const int64_t block = BlockBytes();
  EngineHarness harness(Options({.host_bytes = 10 * block}));
  harness.Run(Of("alice", Letters(1, 64), 0));
  ASSERT_TRUE(
      harness.engine().MarkEntry({"alice", TextRequest(Letters(1, 64), 0).prompt, true, {}}).ok());
  EXPECT_TRUE(harness.Run(Of("alice", Letters(2, 64), 0)).status.ok());
  const Reply reply = harness.Run(Of("alice", Letters(2, 100), 8));
  EXPECT_TRUE(absl::IsResourceExhausted(reply.status)) << reply.status;
  EXPECT_THAT(std::string(reply.status.message()), HasSubstr("pinned entries leave"));
}

absl::Status Pin(EngineHarness& harness, const std::string& tenant, const std::string& text) {
  return harness.engine().MarkEntry({tenant, TextRequest(text, 0).prompt, true, {}}).status();
}

TEST(EngineNamespaceTest, PinsThatLeaveTooLittleOfThePoolRefuseOnlyWhatWouldWaitForEver) {
  HarnessOptions options = Options();
  options.num_blocks = 16;
  EngineHarness harness(options);
  harness.Run(Of("alice", Letters(1, 128), 0));
  ASSERT_TRUE(Pin(harness, "alice", Letters(1, 128)).ok()) << "half of the pool";
  PendingReply large = harness.Submit(Of("bob", Letters(2, 128), 0));  // and one block more
  PendingReply small = harness.Submit(Of("carl", Letters(3, 64), 0));
  EXPECT_TRUE(absl::IsResourceExhausted(large.reply.get().status));
  EXPECT_TRUE(small.reply.get().status.ok());
}

TEST(EngineNamespaceTest, WhatAPromptSharesOfPinnedEntriesDoesNotCountTwice) {
  for (const int64_t quota : {0, 20}) {
    HarnessOptions options = Options({.host_bytes = quota * BlockBytes()});
    options.num_blocks = 20;
    EngineHarness harness(options);
    const std::string system = Letters(1, 144);  // nine of twenty blocks
    harness.Run(Of("alice", system, 0));
    ASSERT_TRUE(Pin(harness, "alice", system).ok());
    const Reply reply = harness.Run(Of("alice", system + Letters(2, 30), 16));  // thirteen
    EXPECT_TRUE(reply.status.ok()) << quota << ": " << reply.status;
    EXPECT_EQ(reply.result.usage.cached_tokens, 144);
    GenerateRequest cold = Of("alice", system + Letters(2, 30), 16);
    cold.cache_policy = CachePolicy::kBypass;
    EXPECT_TRUE(absl::IsResourceExhausted(harness.Run(cold).status)) << "it shares nothing";
  }
}

TEST(EngineNamespaceTest, APinThatTakesWhatARunningRequestMayNeedIsRefused) {
  for (const int64_t quota : {0, 20}) {
    HarnessOptions options = Options({.host_bytes = quota * BlockBytes()});
    options.num_blocks = 20;
    EngineHarness harness(options);
    harness.Run(Of("alice", Letters(1, 128), 0));
    harness.gate().Close();
    PendingReply running = harness.Submit(Of("alice", Letters(2, 16), 200));  // fifteen blocks
    harness.gate().AwaitWaiter();
    const auto pin = [&] { return Pin(harness, "alice", Letters(1, 128)); };
    std::future<absl::Status> pinned = std::async(std::launch::async, pin);
    while (pinned.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
      harness.gate().LetOnePass();
    }
    ASSERT_TRUE(absl::IsResourceExhausted(pinned.get())) << quota;
    harness.gate().Open();
    EXPECT_TRUE(running.reply.get().status.ok());
    harness.Run(Of("alice", Letters(1, 128), 0));  // some of it may be evicted
    harness.Settle();  // what it was promised is given back behind its reply
    EXPECT_TRUE(pin().ok()) << "there is room now";
  }
}

TEST(EngineNamespaceTest, ADiskQuotaIsNeverExceededAndItsOwnEntriesGiveWay) {
  const int64_t block = BlockBytes();
  EngineHarness harness(Options({.disk_bytes = 20 * block}));
  harness.Run(Of("bob", Prompt(100)));
  int64_t most = 0;
  for (int i = 0; i < 12; ++i) {
    harness.Run(Of("alice", Prompt(i)));
    const NamespaceStats during = StatsOf(harness, "alice");
    most = std::max(most, during.disk_bytes + during.pending_bytes);
    harness.Settle();
    most = std::max(most, StatsOf(harness, "alice").disk_bytes);
  }
  EXPECT_LE(most, 20 * block);
  EXPECT_GT(most, 12 * block) << "the quota is used";
  harness.Restart();
  EXPECT_GT(harness.Run(Of("alice", Prompt(11))).result.reuse.disk_tokens, 0) << "the latest stays";
  EXPECT_LE(harness.Run(Of("alice", Prompt(0))).result.reuse.disk_tokens, 2) << "by chance";
  EXPECT_EQ(harness.Run(Of("bob", Prompt(100))).result.reuse.disk_tokens, 79);
}

TEST(EngineNamespaceTest, ADiskQuotaHoldsFromTheStartForWhatTheStoreHad) {
  const int64_t quota = 10 * BlockBytes();
  EngineHarness harness(Options());
  for (int i = 0; i < 6; ++i) harness.Run(Of("alice", Prompt(i)));
  harness.Settle();
  EXPECT_GT(StatsOf(harness, "alice").disk_bytes, quota);
  harness.options().namespaces[0].quota.disk_bytes = quota;
  harness.Restart();
  EXPECT_LE(StatsOf(harness, "alice").disk_bytes, quota);
  EXPECT_GT(StatsOf(harness, "alice").disk_bytes, 0);
}

TEST(EngineNamespaceTest, WhatIsLargerThanTheQuotaIsNotWrittenAndEachSegmentCounted) {
  EngineHarness harness(Options({.disk_bytes = BlockBytes()}));
  EXPECT_TRUE(harness.Run(Of("alice", Prompt(1))).status.ok());
  harness.Settle();
  EXPECT_EQ(StatsOf(harness, "alice").disk_bytes, 0);
  EXPECT_EQ(harness.Metric("reprise_namespace_refused_segments_total", "alice"), 2);
}

TEST(EngineNamespaceTest, AnImportTakesTheQuotaFromOtherEntriesAndAllOrNothing) {
  const int64_t block = BlockBytes();
  HarnessOptions options = Options({.disk_bytes = 8 * block});
  options.engine.eviction.policy = EvictionPolicy::kLru;
  EngineHarness harness(options);
  const std::string text = Letters(1, 128);
  for (const std::string& each : {text, Letters(2, 192)}) harness.Run(Of("bob", each, 0));
  for (const std::string& each : {text.substr(0, 64), Letters(3, 64)}) {
    harness.Run(Of("alice", each, 0));
    harness.Settle();
  }
  const auto import = [&](const std::string& each) {
    const auto entry = harness.engine().ReadEntry("bob", TextRequest(each, 0).prompt);
    EXPECT_TRUE(entry.ok()) << entry.status();
    return harness.engine().WriteEntries({"alice", {*entry}, 0});
  };
  EXPECT_TRUE(absl::IsResourceExhausted(import(Letters(2, 192)).status())) << "12 of 8 blocks";
  EXPECT_EQ(StatsOf(harness, "alice").disk_segments, 2) << "nothing gave way for it";
  const auto imported = import(text);
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(imported->tokens, 64) << "behind its stored beginning, which is used least recently";
  EXPECT_EQ(imported->bytes, 4 * block);
  EXPECT_EQ(harness.engine().DescribeEntry("alice", TextRequest(text, 0).prompt)->disk_tokens, 128);
}

TEST(EngineNamespaceTest, OfAnEntryThatGrewTheStoredPartCanBeRead) {
  EngineHarness harness(Options());
  const std::string text = Letters(1, 200);
  harness.Run(Of("bob", text.substr(0, 100), 0));
  harness.Settle();
  harness.faults().Fail(StoreOperation::kWriteSegments, 1);
  harness.Run(Of("bob", text, 0));
  harness.Settle();
  const std::vector<TokenId> ids = TextRequest(text, 0).prompt;
  const auto entry = harness.engine().ReadEntry("bob", ids);
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->ids, std::vector<TokenId>(ids.begin(), ids.begin() + 100));
  EXPECT_EQ(entry->payloads.size(), 2u);
}

TEST(EngineNamespaceTest, OfAFullDiskTheNamespaceThatHoldsMostGivesWay) {
  HarnessOptions options = Options();
  options.engine.max_disk_bytes = 40 * BlockBytes();
  options.engine.eviction.policy = EvictionPolicy::kLru;  // which of its own is not the question
  EngineHarness harness(options);
  harness.Run(Of("bob", Prompt(100)));
  for (int i = 0; i < 16; ++i) {
    harness.Run(Of("alice", Prompt(i)));
    harness.Settle();
    ASSERT_TRUE(harness.engine().Flush().ok()) << "what was evicted is deleted then";
    const CacheStats stats = harness.engine().GetCacheStats();
    EXPECT_LE(stats.disk.payload_bytes, options.engine.max_disk_bytes);
  }
  harness.Restart();
  EXPECT_EQ(harness.Run(Of("bob", Prompt(100))).result.reuse.disk_tokens, 79);
  EXPECT_LE(harness.Run(Of("alice", Prompt(0))).result.reuse.disk_tokens, 2) << "by chance";
}

TEST(EngineNamespaceTest, NamespacesAreMadeWithTheirFirstRequestOrWhenTheStoreHasThem) {
  EngineHarness harness(Options());
  EXPECT_EQ(harness.engine().GetCacheStats().namespaces.size(), 1u) << "the first, always";
  harness.Run(Of("dora", Prompt(1)));
  harness.Settle();
  EXPECT_EQ(harness.engine().GetCacheStats().namespaces.size(), 2u);
  harness.Restart();
  EXPECT_EQ(harness.engine().GetCacheStats().namespaces.size(), 2u);
  EXPECT_GT(StatsOf(harness, "pool:cd").disk_bytes, 0);
}

TEST(EngineNamespaceTest, TotalsAreTheSumsOverNamespaces) {
  EngineHarness harness(Options());
  for (const char* tenant : {"alice", "bob", "carl"}) harness.Run(Of(tenant, Prompt(1)));
  const CacheStats stats = harness.Settle();
  NamespaceStats sum;
  for (const NamespaceStats& in : stats.namespaces) {
    sum.host_cached_bytes += in.host_cached_bytes;
    sum.host_cached_tokens += in.host_cached_tokens;
    sum.disk_bytes += in.disk_bytes;
    sum.disk_segments += in.disk_segments;
    sum.prompt_count += in.prompt_count;
    EXPECT_EQ(harness.Metric("reprise_namespace_bytes",
                             absl::StrCat("namespace=\"", in.name, "\",tier=\"host\"")),
              in.host_bytes);
    EXPECT_EQ(harness.Metric("reprise_namespace_bytes",
                             absl::StrCat("namespace=\"", in.name, "\",tier=\"disk\"")),
              in.disk_bytes);
  }
  EXPECT_EQ(sum.host_cached_bytes, stats.host_cached_block_count * stats.host_block_bytes);
  EXPECT_EQ(sum.host_cached_tokens, stats.host_cached_tokens);
  EXPECT_EQ(sum.disk_bytes, stats.disk.payload_bytes);
  EXPECT_EQ(sum.disk_segments, stats.disk.segment_count);
  EXPECT_EQ(sum.prompt_count, 3);
}

}  // namespace
}  // namespace reprise
