// What the fuzz targets share. A target defines FuzzSeeds and LLVMFuzzerTestOneInput;
// driver.cc or libFuzzer calls them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace reprise::fuzz {

// Valid inputs to start from.
std::vector<std::string> FuzzSeeds();

inline absl::string_view Text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Ends the process when a property does not hold.
inline void Require(bool holds, const char* property) {
  if (holds) return;
  std::fprintf(stderr, "property does not hold: %s\n", property);
  std::abort();
}

// The bytes of a file under the repository, where ctest starts the tests.
std::string ReadSeed(const std::string& path);

// A file in memory that has a path, for what reads files only.
class MemoryFile {
 public:
  explicit MemoryFile(absl::string_view bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const;

 private:
  int fd_;
};

// A folder for the life of the process, removed at its end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  void Write(const std::string& name, absl::string_view bytes) const;

 private:
  std::string path_;
};

}  // namespace reprise::fuzz
