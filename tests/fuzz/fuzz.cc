#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace reprise::fuzz {

std::string ReadSeed(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Require(file.good(), "seeds are found from the repository's root");
  return std::string(std::istreambuf_iterator<char>(file), {});
}

MemoryFile::MemoryFile(absl::string_view bytes) : fd_(memfd_create("input", MFD_CLOEXEC)) {
  const auto size = static_cast<ssize_t>(bytes.size());
  Require(fd_ >= 0 && write(fd_, bytes.data(), bytes.size()) == size, "an input fits in memory");
}

MemoryFile::~MemoryFile() { close(fd_); }

std::string MemoryFile::path() const { return "/proc/self/fd/" + std::to_string(fd_); }

TemporaryFolder::TemporaryFolder() {
  std::string path = std::filesystem::temp_directory_path() / "reprise_fuzz_XXXXXX";
  Require(mkdtemp(path.data()) != nullptr, "a temporary folder can be made");
  path_ = path;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void TemporaryFolder::Write(const std::string& name, absl::string_view bytes) const {
  std::ofstream file(path_ + "/" + name, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  Require(file.good(), "a temporary file can be written");
}

}  // namespace reprise::fuzz
