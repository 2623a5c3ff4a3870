// What a folder takes on its disk.
#pragma once

#include <cstdint>
#include <string>

namespace reprise {

struct DiskUse {
  int64_t total_bytes = 0;  // allocated, as du counts them, of all files below the folder
  int64_t blob_bytes = 0;   // of these, of files that end in .blob
};

// Files that go while it looks count or do not; a folder that cannot be read is empty.
DiskUse MeasureDiskUse(const std::string& folder);

// Of the disk that the folder is on, for an unprivileged process; 0 when it cannot be told.
int64_t FreeDiskBytes(const std::string& folder);

}  // namespace reprise
