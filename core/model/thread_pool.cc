#include "core/model/thread_pool.h"

#include <immintrin.h>

namespace reprise {
namespace {

// A decode step is hundreds of short loops: a sleeping worker would cost more
// than it brings, a spinning one must give way when there is nothing to do.
constexpr int kSpins = 20000;

template <typename Done>
bool SpinUntil(Done done) {
  for (int i = 0; i < kSpins; ++i) {
    if (done()) return true;
    _mm_pause();
  }
  return false;
}

}  // namespace

ThreadPool::ThreadPool(int num_threads, const std::function<void()>& on_start) {
  for (int thread = 1; thread < num_threads; ++thread) {
    workers_.emplace_back([this, thread, on_start] {
      on_start();
      Work(thread);
    });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    round_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ParallelFor(size_t count, const std::function<void(size_t, int)>& task) {
  if (workers_.empty() || count <= 1) {
    for (size_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    task_ = &task;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  RunTasks(0);
  while (!SpinUntil([this] { return busy_.load(std::memory_order_acquire) == 0; })) {
    std::this_thread::yield();
  }
}

void ThreadPool::RunTasks(int thread) {
  for (size_t i = next_.fetch_add(1); i < count_; i = next_.fetch_add(1)) (*task_)(i, thread);
}

void ThreadPool::Work(int thread) {
  uint64_t seen = 0;
  while (true) {
    const auto has_work = [&] { return round_.load(std::memory_order_acquire) != seen; };
    if (!SpinUntil(has_work)) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, has_work);
    }
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      seen = round_.load(std::memory_order_relaxed);
    }
    RunTasks(thread);
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace reprise
