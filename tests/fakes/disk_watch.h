// DiskWatch measures a folder again and again while it lives, as du does, and keeps the most.
//
// Threading  most() may be called by any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "core/store/disk_use.h"

namespace reprise {

class DiskWatch {
 public:
  DiskWatch(std::string folder, std::chrono::milliseconds pause)
      : folder_(std::move(folder)), pause_(pause), thread_([this] { Watch(); }) {}
  ~DiskWatch() {
    stop_ = true;
    thread_.join();
  }
  DiskWatch(const DiskWatch&) = delete;
  DiskWatch& operator=(const DiskWatch&) = delete;

  int64_t most() const { return most_; }

 private:
  void Watch() {
    while (!stop_) {
      most_ = std::max<int64_t>(most_, MeasureDiskUse(folder_).total_bytes);
      std::this_thread::sleep_for(pause_);
    }
  }

  const std::string folder_;
  const std::chrono::milliseconds pause_;
  std::atomic<int64_t> most_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace reprise
