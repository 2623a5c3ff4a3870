// Byte views and a bounds-checked little-endian reader for untrusted bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace reprise {

using ByteView = absl::Span<const uint8_t>;
using MutableByteView = absl::Span<uint8_t>;

inline ByteView AsBytes(absl::string_view text) {
  return ByteView(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

inline absl::string_view AsText(ByteView bytes) {
  return absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// Reads fixed-width little-endian values off the front of a view it does not
// own. Every read past the end is kDataLoss naming the offset; the reader then
// stays where it was.
class ByteReader {
 public:
  explicit ByteReader(ByteView bytes) : bytes_(bytes) {}

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }

  template <typename T>
  absl::StatusOr<T> Read() {
    static_assert(std::is_trivially_copyable_v<T>);
    if (remaining() < sizeof(T)) return Truncated(sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  absl::StatusOr<ByteView> ReadBytes(uint64_t size) {
    if (remaining() < size) return Truncated(size);
    ByteView view = bytes_.subspan(offset_, size);
    offset_ += size;
    return view;
  }

 private:
  absl::Status Truncated(uint64_t wanted) const {
    return absl::DataLossError(absl::StrCat("truncated at byte ", offset_, ": wanted ", wanted,
                                            " bytes, ", remaining(), " left"));
  }

  ByteView bytes_;
  size_t offset_ = 0;
};

}  // namespace reprise
