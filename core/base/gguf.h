// GGUF container (versions 2 and 3, little-endian) parsed into plain structs.
//
// Ownership  strings and tensor bytes are views into the parsed bytes, which
//            must outlive the GgufFile.
// Threading  immutable after ParseGguf.
// Errors     kInvalidArgument naming the metadata key or the tensor: a size,
//            count or offset that does not fit the bytes, an unknown type, a
//            duplicate name, overlapping tensors.
// Source     ggml's docs/gguf.md.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/bytes.h"

namespace reprise {

// Element encodings this project reads, by ggml's numbers.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

// Any integer width becomes int64_t and any float width double.
using GgufValue =
    std::variant<bool, int64_t, double, absl::string_view, std::vector<bool>, std::vector<int64_t>,
                 std::vector<double>, std::vector<absl::string_view>>;

struct GgufTensor {
  absl::string_view name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> dims;  // ggml order: innermost (contiguous) first; 1 to 4, each > 0
  uint64_t offset = 0;        // from the start of the tensor data
  ByteView bytes;             // exactly the tensor's bytes
};

struct GgufFile {
  uint32_t version = 0;
  uint64_t alignment = 32;
  absl::flat_hash_map<std::string, GgufValue> metadata;
  std::vector<GgufTensor> tensors;  // file order

  bool Has(absl::string_view key) const { return metadata.contains(key); }

  // kNotFound: no such key. kInvalidArgument: another type. Both name the key.
  absl::StatusOr<bool> Bool(absl::string_view key) const;
  absl::StatusOr<int64_t> Int(absl::string_view key) const;
  absl::StatusOr<double> Double(absl::string_view key) const;  // an integer is fine too
  absl::StatusOr<std::string> String(absl::string_view key) const;
  absl::StatusOr<const std::vector<int64_t>*> Ints(absl::string_view key) const;
  absl::StatusOr<const std::vector<double>*> Doubles(absl::string_view key) const;
  absl::StatusOr<const std::vector<absl::string_view>*> Strings(absl::string_view key) const;

  // The value or `fallback` when the key is absent; a wrong type is an error.
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool fallback) const;
  absl::StatusOr<int64_t> IntOr(absl::string_view key, int64_t fallback) const;
  absl::StatusOr<double> DoubleOr(absl::string_view key, double fallback) const;
  absl::StatusOr<std::string> StringOr(absl::string_view key, absl::string_view fallback) const;
};

absl::StatusOr<GgufFile> ParseGguf(ByteView bytes);

}  // namespace reprise
