#include "core/telemetry/process_usage.h"

#include <dirent.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace reprise {
namespace {

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Of a file of lines like "MemTotal:  123 kB": the bytes after `name`.
int64_t KilobyteField(const std::string& text, const std::string& name) {
  const size_t at = text.find(name);
  int64_t kilobytes = 0;
  if (at == std::string::npos) return 0;
  const std::vector<std::string> words = absl::StrSplit(
      text.substr(at + name.size(), 40), absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
  return !words.empty() && absl::SimpleAtoi(words[0], &kilobytes) ? kilobytes * 1024 : 0;
}

// "btime 123" of /proc/stat: when the machine started.
double BootTime() {
  const std::string text = ReadAll("/proc/stat");
  const size_t at = text.find("\nbtime ");
  double seconds = 0;
  if (at == std::string::npos) return 0;
  const size_t begin = at + 7;
  return absl::SimpleAtod(text.substr(begin, text.find('\n', begin) - begin), &seconds) ? seconds
                                                                                        : 0;
}

int64_t CountOpenFiles() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  int64_t entries = 0;
  while (readdir(folder) != nullptr) ++entries;
  closedir(folder);
  return entries - 3;  // ".", ".." and this folder itself
}

// The numbers of /proc/self/stat that follow the command's name, which may hold anything.
void ReadStat(ProcessUsage& usage) {
  const std::string text = ReadAll("/proc/self/stat");
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return;
  // Field 3 of proc(5) comes first.
  const std::vector<std::string> fields =
      absl::StrSplit(text.substr(name_end + 1), ' ', absl::SkipEmpty());
  const auto field = [&fields](size_t number) {
    int64_t value = 0;
    return number - 3 < fields.size() && absl::SimpleAtoi(fields[number - 3], &value) ? value : 0;
  };
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  usage.major_page_faults = field(12);
  usage.cpu_seconds = static_cast<double>(field(14) + field(15)) / ticks;
  usage.threads = field(20);
  usage.start_time_seconds = BootTime() + static_cast<double>(field(22)) / ticks;
  usage.resident_bytes = field(24) * sysconf(_SC_PAGESIZE);
}

}  // namespace

ProcessUsage ReadProcessUsage() {
  ProcessUsage usage;
  ReadStat(usage);
  usage.open_files = CountOpenFiles();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    usage.open_files_limit = static_cast<int64_t>(limit.rlim_cur);
  }
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0) usage.usable_cpus = CPU_COUNT(&cpus);
  const std::string memory = ReadAll("/proc/meminfo");
  usage.machine_memory_bytes = KilobyteField(memory, "MemTotal:");
  usage.machine_available_bytes = KilobyteField(memory, "MemAvailable:");
  return usage;
}

}  // namespace reprise
