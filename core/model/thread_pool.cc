#include "core/model/thread_pool.h"

#include <immintrin.h>

namespace reprise {
namespace {

// A decode step is hundreds of short loops: a sleeping worker would cost more
// than it brings, a spinning one must give way when there is nothing to do.
constexpr int kSpins = 20000;

// About two microseconds: who still works then may have been put aside.
constexpr int kSpinsBeforeHelping = 64;

uint64_t Pack(uint32_t number, uint32_t low) { return uint64_t{number} << 32 | low; }

template <typename Done>
bool SpinUntil(int spins, Done done) {
  for (int i = 0; i < spins; ++i) {
    if (done()) return true;
    _mm_pause();
  }
  return false;
}

}  // namespace

ThreadPool::ThreadPool(int num_threads, const std::function<void()>& on_start)
    : threads_(std::make_unique<Thread[]>(num_threads)) {
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

void ThreadPool::ParallelFor(size_t count, const Task& task) {
  if (workers_.empty() || count <= 1) {
    for (size_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
  const Loop loop = {loop_.number.load() + 2, static_cast<uint32_t>(count), &task};
  loop_.number.store(loop.number - 1);
  loop_.count.store(loop.count);
  loop_.task.store(loop.task);
  loop_.number.store(loop.number);
  if (sleepers_.load() > 0) {
    { std::lock_guard lock(mutex_); }  // who found no loop now waits
    wake_.notify_all();
  }
  uint32_t done = RunShare(loop, 0, 0);
  while (!SpinUntil(kSpinsBeforeHelping, [&] { return done + CountDone(loop) == loop.count; })) {
    done += RunOthers(loop, 0);
    std::this_thread::yield();
  }
}

// Runs what is left of `owner`'s share; returns how many tasks that were.
uint32_t ThreadPool::RunShare(const Loop& loop, int owner, int thread) {
  const auto threads = static_cast<uint64_t>(num_threads());
  const auto begin = static_cast<uint32_t>(loop.count * static_cast<uint64_t>(owner) / threads);
  const auto end = static_cast<uint32_t>(loop.count * (owner + uint64_t{1}) / threads);
  std::atomic<uint64_t>& next = threads_[owner].next;
  uint32_t ran = 0;
  for (uint64_t seen = next.load();;) {
    const auto number = static_cast<uint32_t>(seen >> 32);
    if (static_cast<int32_t>(number - loop.number) > 0) return ran;  // the loop is over
    const uint32_t index = number == loop.number ? static_cast<uint32_t>(seen) : begin;
    if (index >= end) return ran;
    if (!next.compare_exchange_weak(seen, Pack(loop.number, index + 1))) continue;
    (*loop.task)(index, thread);
    ++ran;
    seen = next.load();
  }
}

uint32_t ThreadPool::RunOthers(const Loop& loop, int thread) {
  uint32_t ran = 0;
  for (int owner = 0; owner < num_threads(); ++owner) ran += RunShare(loop, owner, thread);
  return ran;
}

// Tasks that workers have run.
uint32_t ThreadPool::CountDone(const Loop& loop) const {
  uint32_t total = 0;
  for (int thread = 1; thread < num_threads(); ++thread) {
    const uint64_t done = threads_[thread].done.load();
    if (static_cast<uint32_t>(done >> 32) == loop.number) total += static_cast<uint32_t>(done);
  }
  return total;
}

bool ThreadPool::IsNew(uint32_t last) const {
  const uint32_t number = loop_.number.load();
  return (number != last && number % 2 == 0) || stopping_.load();
}

// Waits for a loop after number `last`; false: the pool ends.
bool ThreadPool::WaitForLoop(uint32_t last) {
  if (!SpinUntil(kSpins, [&] { return IsNew(last); })) {
    std::unique_lock lock(mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(lock, [&] { return IsNew(last); });
    sleepers_.fetch_sub(1);
  }
  return !stopping_.load();
}

// False when the loop changed meanwhile.
bool ThreadPool::ReadLoop(Loop& loop) const {
  loop.number = loop_.number.load();
  loop.count = loop_.count.load();
  loop.task = loop_.task.load();
  return loop.number % 2 == 0 && loop_.number.load() == loop.number;
}

void ThreadPool::Work(int thread) {
  Loop loop = {};
  for (uint32_t last = 0; WaitForLoop(last);) {
    if (!ReadLoop(loop)) continue;
    last = loop.number;
    uint32_t ran = RunShare(loop, thread, thread);
    // A loop that waits for these tasks has not ended, so this is its number.
    if (ran > 0) threads_[thread].done.store(Pack(loop.number, ran));
    if (SpinUntil(kSpinsBeforeHelping, [&] { return IsNew(last); })) continue;
    ran += RunOthers(loop, thread);
    if (ran > 0) threads_[thread].done.store(Pack(loop.number, ran));
  }
}

}  // namespace reprise
