// ThreadPool runs one parallel loop at a time on a fixed set of threads.
//
// Each thread has a share of the indexes that follow each other, so that it reads memory in
// order and claims without asking the others; who is done early and waits long takes from the
// shares of those that the system has put aside. Beginning and ending a loop each cost one
// transfer of a cache line between cores.
//
// Threading  ParallelFor is called by one thread, the owner, which takes part.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace reprise {

class ThreadPool {
 public:
  // `num_threads` >= 1 counts the caller. `on_start` runs first on each worker.
  ThreadPool(int num_threads, const std::function<void()>& on_start);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(index, thread) for every index in [0, count), in any order, and
  // returns when all have returned; `count` is below 2^32 - 1. `thread` is in [0, num_threads()).
  void ParallelFor(size_t count, const std::function<void(size_t index, int thread)>& task);

 private:
  using Task = std::function<void(size_t, int)>;

  // A loop as a thread saw it; nothing of an earlier one can be claimed any more.
  struct Loop {
    uint32_t number;
    uint32_t count;
    const Task* task;
  };
  // On a line of its own, which a thread that waits reads once for each loop. `number` is odd
  // while the other fields change.
  struct alignas(64) SharedLoop {
    std::atomic<uint32_t> number{0};
    std::atomic<uint32_t> count{0};
    std::atomic<const Task*> task{nullptr};
  };
  struct Thread {
    // The loop's number in the high half, the next index of this thread's share in the low. An
    // index is claimed by raising it; in a loop that has not been seen here, from the first on.
    alignas(64) std::atomic<uint64_t> next{0};
    // The loop's number, and how many tasks this thread has run in it.
    alignas(64) std::atomic<uint64_t> done{0};
  };

  void Work(int thread);
  bool WaitForLoop(uint32_t last);
  bool IsNew(uint32_t last) const;
  bool ReadLoop(Loop& loop) const;
  uint32_t RunShare(const Loop& loop, int owner, int thread);
  uint32_t RunOthers(const Loop& loop, int thread);
  uint32_t CountDone(const Loop& loop) const;

  std::mutex mutex_;
  std::condition_variable wake_;
  SharedLoop loop_;
  std::unique_ptr<Thread[]> threads_;  // the owner's first
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace reprise
