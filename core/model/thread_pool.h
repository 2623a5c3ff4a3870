// ThreadPool runs one parallel loop at a time on a fixed set of threads.
//
// Threading  ParallelFor is called by one thread, the owner, which takes part.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
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
  void Work(int thread);
  void RunTasks(int thread);

  bool HasWork() const;

  std::mutex mutex_;
  std::condition_variable wake_;
  // The loop's number in the high half, its next index in the low. An index is claimed by
  // raising it, which fails once another loop has begun; so a worker that comes late, or
  // that the system has put aside, holds nobody up.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<const std::function<void(size_t, int)>*> task_{nullptr};
  std::atomic<uint32_t> count_{0};
  std::atomic<uint32_t> done_{0};  // indexes whose task has returned
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace reprise
