#include "core/base/safetensors.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

constexpr uint64_t kMaxHeaderBytes = uint64_t{100} << 20;
constexpr size_t kMaxRank = 8;

struct Extent {
  uint64_t begin, end;
  std::string name;
};

absl::Status Bad(absl::string_view name, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("tensor ", name, ": ", problem));
}

std::optional<SafetensorsType> TypeOf(absl::string_view dtype) {
  if (dtype == "F32") return SafetensorsType::kF32;
  if (dtype == "F16") return SafetensorsType::kF16;
  if (dtype == "BF16") return SafetensorsType::kBF16;
  return std::nullopt;
}

absl::StatusOr<std::vector<int64_t>> ReadInts(const JsonValue& parent, absl::string_view key) {
  ASSIGN_OR_RETURN(const JsonValue list, parent.Get(key));
  if (list.kind() != JsonValue::Kind::kArray || list.size() > kMaxRank) {
    return absl::InvalidArgumentError(
        absl::StrCat(list.path(), ": expected a list of at most ", kMaxRank, " integers"));
  }
  std::vector<int64_t> values;
  for (size_t i = 0; i < list.size(); ++i) {
    ASSIGN_OR_RETURN(const JsonValue item, list.At(i));
    ASSIGN_OR_RETURN(const int64_t value, item.AsInt());
    values.push_back(value);
  }
  return values;
}

// Bytes of a tensor; nullopt when a size is not positive or the product overflows.
std::optional<uint64_t> TensorBytes(const std::vector<int64_t>& shape, SafetensorsType type) {
  uint64_t bytes = type == SafetensorsType::kF32 ? 4 : 2;
  for (const int64_t size : shape) {
    if (size <= 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) {
      return std::nullopt;
    }
  }
  return bytes;
}

// The tensor called `name`, nullopt for a dtype this project does not read.
absl::StatusOr<std::optional<SafetensorsTensor>> ReadTensor(const JsonValue& entry,
                                                            const std::string& name, ByteView data,
                                                            std::vector<Extent>& extents) {
  ASSIGN_OR_RETURN(const JsonValue dtype_value, entry.Get("dtype"));
  ASSIGN_OR_RETURN(const std::string dtype, dtype_value.AsString());
  ASSIGN_OR_RETURN(const std::vector<int64_t> offsets, ReadInts(entry, "data_offsets"));
  if (offsets.size() != 2 || offsets[0] < 0 || offsets[1] < offsets[0] ||
      static_cast<uint64_t>(offsets[1]) > data.size()) {
    return Bad(name, absl::StrCat("data_offsets do not lie in the ", data.size(), " data bytes"));
  }
  extents.push_back({static_cast<uint64_t>(offsets[0]), static_cast<uint64_t>(offsets[1]), name});
  const std::optional<SafetensorsType> type = TypeOf(dtype);
  if (!type) return std::optional<SafetensorsTensor>();
  SafetensorsTensor tensor{name, *type, {}, {}};
  ASSIGN_OR_RETURN(tensor.shape, ReadInts(entry, "shape"));
  const std::optional<uint64_t> size = TensorBytes(tensor.shape, *type);
  const uint64_t stored = extents.back().end - extents.back().begin;
  if (!size || *size != stored) {
    return Bad(name, absl::StrCat("shape and dtype ", dtype, " do not give the ", stored,
                                  " bytes of data_offsets"));
  }
  tensor.bytes = data.subspan(extents.back().begin, stored);
  return std::optional(std::move(tensor));
}

absl::Status CheckOverlap(std::vector<Extent> extents) {
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < extents.size(); ++i) {
    if (extents[i].begin < extents[i - 1].end) {
      return Bad(extents[i].name, absl::StrCat("overlaps ", extents[i - 1].name));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<JsonValue> ReadHeader(ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint64_t size, reader.Read<uint64_t>());
  if (size > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(size, " bytes, the limit is ", kMaxHeaderBytes));
  }
  ASSIGN_OR_RETURN(const ByteView bytes, reader.ReadBytes(size));
  return JsonValue::Parse(AsText(bytes));
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsTensor>> ParseSafetensors(ByteView bytes) {
  ByteReader reader(bytes);
  const absl::StatusOr<JsonValue> root = ReadHeader(reader);
  if (!root.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("safetensors header: ", root.status().message()));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> names, root->Keys());
  const ByteView data = bytes.subspan(reader.offset());
  std::vector<SafetensorsTensor> tensors;
  std::vector<Extent> extents;
  for (const std::string& name : names) {
    if (name == "__metadata__") continue;
    ASSIGN_OR_RETURN(const JsonValue entry, root->Get(name));
    ASSIGN_OR_RETURN(auto tensor, ReadTensor(entry, name, data, extents));
    if (tensor) tensors.push_back(*std::move(tensor));
  }
  RETURN_IF_ERROR(CheckOverlap(std::move(extents)));
  return tensors;
}

}  // namespace reprise
