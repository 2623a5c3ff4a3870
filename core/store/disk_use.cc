#include "core/store/disk_use.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"

namespace reprise {
namespace {

constexpr int64_t kStatBlockBytes = 512;  // the unit of st_blocks

int64_t Allocated(const std::string& path) {
  struct stat facts = {};
  return lstat(path.c_str(), &facts) == 0 ? int64_t{facts.st_blocks} * kStatBlockBytes : 0;
}

}  // namespace

DiskUse MeasureDiskUse(const std::string& folder) {
  DiskUse use;
  use.total_bytes = Allocated(folder);
  std::error_code error;
  using Walk = std::filesystem::recursive_directory_iterator;
  for (Walk it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string& path = it->path().native();
    const int64_t bytes = Allocated(path);
    use.total_bytes += bytes;
    if (absl::EndsWith(path, ".blob")) use.blob_bytes += bytes;
  }
  return use;
}

int64_t FreeDiskBytes(const std::string& folder) {
  struct statvfs facts = {};
  if (statvfs(folder.c_str(), &facts) != 0) return 0;
  return static_cast<int64_t>(facts.f_bavail * facts.f_frsize);
}

}  // namespace reprise
