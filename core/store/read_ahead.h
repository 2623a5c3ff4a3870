// Reads on a thread of its own what the caller takes: reading and using overlap.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace reprise {

// Runs `produce` on another thread, which hands out items one by one, and `consume` for
// each of them, in that order, on this one. Returns once both have ended.
template <typename Item>
void ReadAhead(const std::function<void(const std::function<void(Item)>& emit)>& produce,
               const std::function<void(Item)>& consume) {
  constexpr size_t kBatch = 1024, kMaxBatches = 16;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::vector<Item>> batches;
  bool ended = false;
  const auto hand_over = [&](std::vector<Item> batch) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return batches.size() < kMaxBatches; });
    batches.push_back(std::move(batch));
    changed.notify_all();
  };
  std::thread reader([&] {
    std::vector<Item> batch;
    produce([&](Item item) {
      batch.push_back(std::move(item));
      if (batch.size() == kBatch) hand_over(std::exchange(batch, {}));
    });
    hand_over(std::move(batch));
    const std::lock_guard lock(mutex);
    ended = true;
    changed.notify_all();
  });
  while (true) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return ended || !batches.empty(); });
    if (batches.empty()) break;
    std::vector<Item> batch = std::move(batches.front());
    batches.pop_front();
    changed.notify_all();
    lock.unlock();
    for (Item& item : batch) consume(std::move(item));
  }
  reader.join();
}

}  // namespace reprise
