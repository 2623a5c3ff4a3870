// Requests that are cancelled at any moment leave nothing behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <future>
#include <mutex>
#include <random>
#include <vector>

#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

constexpr int kCancelled = 1000;

// A pool for a few of the requests, so that some are preempted, prompts are evicted from
// memory and loaded from the store again.
HarnessOptions Crowded() {
  HarnessOptions options;
  options.num_blocks = 32;
  options.hashed_ids = 3;  // drafts are accepted now and then
  options.engine.max_queued_requests = 1000;
  options.engine.max_running_sequences = 8;
  options.engine.max_batch_tokens = 32;
  return options;
}

class CancelTest : public testing::Test {
 protected:
  int Pick(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }

  // Few beginnings, so that there is much to share.
  GenerateRequest RandomRequest() {
    const std::string text = Letters(Pick(0, 9), Pick(10, 110)) + Letters(Pick(0, 99), Pick(0, 30));
    GenerateRequest request = TextRequest(text, Pick(0, 150), static_cast<CachePolicy>(Pick(0, 3)));
    request.retrieval_mode = static_cast<RetrievalMode>(Pick(0, 2));
    if (Pick(0, 2) == 0) request.speculation = PromptLookupOptions{};
    return request;
  }

  // What random requests begin with is in the store, most of it no longer in memory.
  void FillStore() {
    for (int i = 0; i < 10; ++i) {
      disk_bytes_ += harness_.Run(TextRequest(Letters(i, 110), 0)).result.reuse.disk_bytes_read;
    }
    harness_.Settle();
  }

  // Submits `count` requests, all or nearly all of which are cancelled.
  void Round(int count) {
    std::vector<PendingReply> pending;
    std::vector<GenerateRequest> requests;
    for (int i = 0; i < count; ++i) {
      requests.push_back(RandomRequest());
      pending.push_back(harness_.Submit(requests.back()));
      const std::lock_guard lock(mutex_);
      ids_.push_back(pending.back().id);
    }
    for (int i = 0; i < count; ++i) {
      // Where all wait for the store no step comes that could open its gate.
      while (pending[i].reply.wait_for(std::chrono::milliseconds(2)) != std::future_status::ready) {
        harness_.faults().gate(StoreOperation::kReadSegment).Open();
      }
      Account(requests[i], pending[i].reply.get());
    }
    const std::lock_guard lock(mutex_);
    ids_.clear();
    harness_.faults().gate(StoreOperation::kReadSegment).Open();
  }

  // In each step, on the engine thread: somebody's caller may give up, and the store answers
  // at times only.
  absl::Status MaybeCancel() {
    const std::lock_guard lock(mutex_);
    if (ids_.empty()) return absl::OkStatus();
    std::uniform_int_distribution<size_t> any(0, ids_.size() - 1), four(0, 3);
    if (four(steps_random_) == 0) harness_.engine().Cancel(ids_[any(steps_random_)]);
    Gate& reads = harness_.faults().gate(StoreOperation::kReadSegment);
    four(steps_random_) > 0 ? reads.Close() : reads.Open();
    return absl::OkStatus();
  }

  void Account(const GenerateRequest& request, const Reply& reply) {
    const GenerateResult& result = reply.result;
    const Usage& usage = result.usage;
    disk_bytes_ += result.reuse.disk_bytes_read;
    gaps_ += std::max(usage.output_tokens - 1, 0);
    const int32_t done = usage.cached_tokens + usage.computed_tokens;
    EXPECT_GE(std::min(usage.cached_tokens, usage.computed_tokens), 0);
    if (reply.status.ok()) {
      EXPECT_EQ(done, usage.prompt_tokens);
      finished_.emplace_back(request, result.output_ids);
      return;
    }
    EXPECT_TRUE(absl::IsCancelled(reply.status)) << reply.status;
    EXPECT_LE(done, usage.prompt_tokens);
    ++cancelled_;
    if (!result.reuse.decided) {
      ++queued_;
    } else if (usage.output_tokens > 0) {
      ++decoding_;
    } else if (done == 0 && result.reuse.predicted_load > absl::ZeroDuration()) {
      ++loading_;
    } else {
      ++prefilling_;
    }
  }

  HarnessOptions Options() {
    HarnessOptions options = Crowded();
    options.fail_step = [this] { return MaybeCancel(); };
    return options;
  }

  std::mutex mutex_;  // guards what follows up to the blank line
  std::vector<SequenceId> ids_;
  std::mt19937 steps_random_{6};

  std::mt19937 random_{5};
  EngineHarness harness_{Options()};
  int cancelled_ = 0, queued_ = 0, loading_ = 0, prefilling_ = 0, decoding_ = 0;  // when cancelled
  int64_t disk_bytes_ = 0, gaps_ = 0;
  std::vector<std::pair<GenerateRequest, std::vector<TokenId>>> finished_;
};

TEST_F(CancelTest, ThousandCancelledRequestsLeaveThePoolAsItWas) {
  FillStore();
  while (cancelled_ < kCancelled) Round(std::min(100, kCancelled - cancelled_));
  EXPECT_GT(queued_, 10);
  EXPECT_GT(loading_, 0);
  EXPECT_GT(prefilling_, 10);
  EXPECT_GT(decoding_, 10);
  EXPECT_GT(harness_.Metric("reprise_preemptions_total"), 0);
  EXPECT_GT(finished_.size(), 50u);

  const CacheStats stats = harness_.Settle();
  EXPECT_EQ(stats.running_sequences + stats.queued_requests, 0);
  EXPECT_EQ(stats.pending_write_segments, 0);
  EXPECT_EQ(stats.host_free_block_count + stats.host_cached_block_count, stats.host_block_count);
  EXPECT_EQ(stats.host_available_block_count, stats.host_block_count) << "a reference was leaked";
  EXPECT_EQ(harness_.Metric("reprise_store_read_bytes_total"), static_cast<double>(disk_bytes_));
  EXPECT_EQ(harness_.Metric("reprise_inter_token_seconds_count"), static_cast<double>(gaps_));
  std::printf("cancelled=%d leaked_blocks=%d\n", cancelled_,
              static_cast<int>(stats.host_block_count - stats.host_available_block_count));

  for (size_t i = 0; i < finished_.size(); i += 7) {  // what is cached and stored is sound
    auto& [request, output] = finished_[i];
    for (const CachePolicy policy : {CachePolicy::kForce, CachePolicy::kBypass}) {
      request.cache_policy = policy;
      ASSERT_EQ(harness_.Run(request).result.output_ids, output) << i;
    }
  }
  // One that takes all blocks but one has room: the rest of the cache gives way.
  const int32_t most = (stats.host_block_count - 1) * kBlockTokens;
  EXPECT_TRUE(harness_.Run(TextRequest(Letters(1, most), 0, CachePolicy::kBypass)).status.ok());
  EXPECT_GE(harness_.Settle().host_free_block_count, stats.host_block_count - 1);
}

}  // namespace
}  // namespace reprise
