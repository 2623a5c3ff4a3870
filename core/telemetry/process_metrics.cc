#include "core/telemetry/process_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include <algorithm>

#include "absl/synchronization/mutex.h"

namespace reprise {

using prometheus::Counter;
using prometheus::Gauge;

struct ProcessMetrics::Impl {
  explicit Impl(prometheus::Registry& registry) : registry(registry) {}

  Counter& One(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
  }
  Gauge& Level(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }

  absl::Mutex mutex;  // two scrapes at once must not both add what was used since the last
  prometheus::Registry& registry;
  Counter& cpu = One("reprise_process_cpu_seconds_total", "CPU time of all threads.");
  Counter& faults =
      One("reprise_process_major_page_faults_total", "Memory pages that had to come from disk.");
  Gauge& start =
      Level("reprise_process_start_time_seconds", "When the process started, in Unix time.");
  Gauge& resident =
      Level("reprise_process_resident_memory_bytes", "Memory of the process that is in RAM.");
  Gauge& threads = Level("reprise_process_threads", "Threads of the process.");
  Gauge& files = Level("reprise_process_open_files", "Open files and sockets.");
  Gauge& file_limit =
      Level("reprise_process_open_files_limit", "Files and sockets that may be open.");
  Gauge& cpus = Level("reprise_machine_usable_cpus", "CPUs that the process may run on.");
  Gauge& memory = Level("reprise_machine_memory_bytes", "Memory of the machine.");
  Gauge& available = Level("reprise_machine_available_memory_bytes",
                           "Memory of the machine to be had without swapping.");
};

ProcessMetrics::ProcessMetrics(prometheus::Registry& registry)
    : impl_(std::make_unique<Impl>(registry)) {}
ProcessMetrics::~ProcessMetrics() = default;

void ProcessMetrics::Set(const ProcessUsage& usage) {
  Impl& m = *impl_;
  absl::MutexLock lock(&m.mutex);
  const auto raise = [](Counter& counter, double to) {
    counter.Increment(std::max(0.0, to - counter.Value()));
  };
  raise(m.cpu, usage.cpu_seconds);
  raise(m.faults, static_cast<double>(usage.major_page_faults));
  m.start.Set(usage.start_time_seconds);
  m.resident.Set(static_cast<double>(usage.resident_bytes));
  m.threads.Set(static_cast<double>(usage.threads));
  m.files.Set(static_cast<double>(usage.open_files));
  m.file_limit.Set(static_cast<double>(usage.open_files_limit));
  m.cpus.Set(static_cast<double>(usage.usable_cpus));
  m.memory.Set(static_cast<double>(usage.machine_memory_bytes));
  m.available.Set(static_cast<double>(usage.machine_available_bytes));
}

}  // namespace reprise
