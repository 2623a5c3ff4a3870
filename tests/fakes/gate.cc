#include "tests/fakes/gate.h"

namespace reprise {

void Gate::Set(bool open) {
  const std::lock_guard lock(mutex_);
  open_ = open;
  changed_.notify_all();
}

void Gate::LetOnePass() {
  const std::lock_guard lock(mutex_);
  ++passes_;
  changed_.notify_all();
}

void Gate::Pass() {
  std::unique_lock lock(mutex_);
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, [this] { return open_ || passes_ > 0; });
  if (!open_) --passes_;
  --waiting_;
}

void Gate::AwaitWaiter() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return waiting_ > passes_; });
}

}  // namespace reprise
