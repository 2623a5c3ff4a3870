#include "core/model/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise {
namespace {

using ::testing::Each;

TEST(ThreadPoolTest, EveryIndexRunsExactlyOnceInEveryLoop) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads, [] {});
    EXPECT_EQ(pool.num_threads(), threads);
    for (const size_t count : {0u, 1u, 2u, 3u, 64u, 1000u}) {
      for (int round = 0; round < 20; ++round) {
        std::vector<std::atomic<int>> runs(count);
        pool.ParallelFor(count, [&](size_t i, int) { runs[i].fetch_add(1); });
        std::vector<int> totals(runs.begin(), runs.end());
        EXPECT_THAT(totals, Each(1)) << threads << " threads, " << count << " indices";
      }
    }
  }
}

// What a task wrote without atomics is there when the loop returns.
TEST(ThreadPoolTest, ALoopSeesWhatTheOneBeforeItWrote) {
  ThreadPool pool(3, [] {});
  std::vector<int> values(256, 0);
  for (int round = 1; round <= 50; ++round) {
    pool.ParallelFor(values.size(), [&](size_t i, int) { ++values[i]; });
    ASSERT_THAT(values, Each(round));
  }
}

TEST(ThreadPoolTest, ThreadNumbersNeverClash) {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads, [] {});
  std::vector<std::atomic<int>> inside(kThreads);
  std::atomic<bool> clash{false};
  pool.ParallelFor(2000, [&](size_t, int thread) {
    if (thread < 0 || thread >= kThreads || inside[thread].fetch_add(1) != 0) clash = true;
    if (thread >= 0 && thread < kThreads) inside[thread].fetch_sub(1);
  });
  EXPECT_FALSE(clash);
}

TEST(ThreadPoolTest, EveryWorkerStartsWithOnStart) {
  std::atomic<int> started{0};
  {
    ThreadPool pool(4, [&] { started.fetch_add(1); });
  }
  EXPECT_EQ(started, 3);
}

}  // namespace
}  // namespace reprise
