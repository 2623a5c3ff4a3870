// MappedFile is a read-only memory map of one whole regular file.
//
// Threading  immutable; share freely. The map lives as long as the object.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/base/bytes.h"

namespace reprise {

class MappedFile {
 public:
  // kNotFound: no such file. kInvalidArgument: not a regular file, or empty.
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  ByteView bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

  // Tells the kernel that the pages are not needed any more; they stay readable.
  void DropPages() const;

 private:
  MappedFile(std::string path, ByteView bytes) : path_(std::move(path)), bytes_(bytes) {}
  std::string path_;
  ByteView bytes_;
};

}  // namespace reprise
