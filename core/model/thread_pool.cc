#include "core/model/thread_pool.h"

#include <immintrin.h>

namespace reprise {
namespace {

// A decode step is hundreds of short loops: a sleeping worker would cost more
// than it brings, a spinning one must give way when there is nothing to do.
constexpr int kSpins = 20000;

constexpr uint64_t kClosed = 0xffffffff;

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
    stopping_.store(true);
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
    const uint64_t loop = ((ticket_.load() >> 32) + 1) << 32;
    // Closed while its fields change: no count is above this index.
    ticket_.store(loop | kClosed);
    task_.store(&task);
    done_.store(0);
    count_.store(static_cast<uint32_t>(count));
    ticket_.store(loop);
  }
  wake_.notify_all();
  RunTasks(0);
  while (!SpinUntil([&] { return done_.load() == count; })) std::this_thread::yield();
}

bool ThreadPool::HasWork() const {
  return static_cast<uint32_t>(ticket_.load()) < count_.load() || stopping_.load();
}

void ThreadPool::RunTasks(int thread) {
  while (true) {
    uint64_t ticket = ticket_.load();
    const auto index = static_cast<uint32_t>(ticket);
    if (index >= count_.load()) return;
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
    (*task_.load())(index, thread);
    done_.fetch_add(1);
  }
}

void ThreadPool::Work(int thread) {
  while (true) {
    if (!SpinUntil([this] { return HasWork(); })) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return HasWork(); });
    }
    if (stopping_.load()) return;
    RunTasks(thread);
  }
}

}  // namespace reprise
