// WorkerThread runs closures one after another on a thread of its own.
//
// Threading  Post may be called from any thread. The destructor runs what is
//            queued, then joins.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace reprise {

// kLow: gets processor time that others leave, where the system has such a thing.
enum class WorkerPriority { kNormal, kLow };

class WorkerThread {
 public:
  explicit WorkerThread(WorkerPriority priority = WorkerPriority::kNormal);
  ~WorkerThread();
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

  void Post(std::function<void()> task);

 private:
  void Run();

  std::mutex mutex_;  // guards what follows up to the thread; ThreadSanitizer sees into it
  std::condition_variable news_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace reprise
