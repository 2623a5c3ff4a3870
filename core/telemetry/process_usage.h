// What this process takes of its machine, read from /proc.
#pragma once

#include <cstdint>

namespace reprise {

// A value that cannot be read is 0.
struct ProcessUsage {
  double cpu_seconds = 0;         // user and system, of all threads, since the start
  double start_time_seconds = 0;  // since the Unix epoch
  int64_t resident_bytes = 0;
  int64_t threads = 0;
  int64_t open_files = 0;
  int64_t open_files_limit = 0;
  int64_t major_page_faults = 0;  // since the start: pages that came from disk
  int64_t usable_cpus = 0;        // that the scheduler may run it on
  int64_t machine_memory_bytes = 0;
  int64_t machine_available_bytes = 0;  // that can be had without swapping
};

// Takes tens of microseconds. Threading: any thread.
ProcessUsage ReadProcessUsage();

}  // namespace reprise
