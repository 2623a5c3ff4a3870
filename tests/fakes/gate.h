// Gate: holds a thread while it is closed, a model's step for example.
//
// Threading  every method is safe from any thread.
#pragma once

#include <condition_variable>
#include <mutex>

namespace reprise {

class Gate {
 public:
  void Close() { Set(false); }
  void Open() { Set(true); }
  void LetOnePass();
  void Pass();         // blocks while closed
  void AwaitWaiter();  // until somebody stands at the closed gate whom no pass lets through

 private:
  void Set(bool open);

  // ThreadSanitizer sees the standard mutex, unlike the packaged abseil's.
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int passes_ = 0;  // that may pass although it is closed
  int waiting_ = 0;
};

}  // namespace reprise
