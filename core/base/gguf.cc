#include "core/base/gguf.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF" read as little-endian
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kMaxNameBytes = 1024;

// Metadata value types, by the format's numbers.
enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

struct BlockLayout {
  int64_t elements = 0;
  int64_t bytes = 0;
};

// Elements per block and bytes per block; {0, 0} for a type not read here.
BlockLayout LayoutOf(uint32_t type) {
  switch (static_cast<GgmlType>(type)) {
    case GgmlType::kF32:
      return {1, 4};
    case GgmlType::kF16:
    case GgmlType::kBF16:
      return {1, 2};
    case GgmlType::kQ4_0:
      return {32, 18};
    case GgmlType::kQ4_1:
      return {32, 20};
    case GgmlType::kQ5_0:
      return {32, 22};
    case GgmlType::kQ5_1:
      return {32, 24};
    case GgmlType::kQ8_0:
      return {32, 34};
    case GgmlType::kQ4_K:
      return {256, 144};
    case GgmlType::kQ5_K:
      return {256, 176};
    case GgmlType::kQ6_K:
      return {256, 210};
  }
  return {};
}

absl::Status Invalid(absl::string_view what, absl::string_view name, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("gguf ", what, " \"", name, "\": ", problem));
}

absl::StatusOr<absl::string_view> ReadString(ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint64_t size, reader.Read<uint64_t>());
  ASSIGN_OR_RETURN(const ByteView bytes, reader.ReadBytes(size));
  return AsText(bytes);
}

absl::StatusOr<absl::string_view> ReadName(ByteReader& reader) {
  ASSIGN_OR_RETURN(const absl::string_view name, ReadString(reader));
  if (name.empty() || name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a name of ", name.size(), " bytes; the limit is 1 to ", kMaxNameBytes));
  }
  return name;
}

// Reads one Stored value and widens it to Wide.
template <typename Stored, typename Wide>
absl::StatusOr<Wide> ReadAs(ByteReader& reader) {
  ASSIGN_OR_RETURN(const Stored value, reader.Read<Stored>());
  if constexpr (std::is_same_v<Stored, uint64_t>) {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return absl::InvalidArgumentError(absl::StrCat("integer ", value, " exceeds 2^63 - 1"));
    }
  }
  return static_cast<Wide>(value);
}

absl::StatusOr<bool> ReadBool(ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint8_t value, reader.Read<uint8_t>());
  if (value > 1) return absl::InvalidArgumentError(absl::StrCat("bool of value ", int{value}));
  return value == 1;
}

// Keeps one value, or a vector of `count` values when `count` is not negative.
// Each element takes at least one byte, so a vector never outgrows the file by
// more than its widening.
template <typename T, typename Reader>
absl::StatusOr<GgufValue> Collect(ByteReader& reader, int64_t count, Reader read) {
  if (count < 0) {
    ASSIGN_OR_RETURN(T value, read(reader));
    return GgufValue(value);
  }
  std::vector<T> values;
  values.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(T value, read(reader));
    values.push_back(value);
  }
  return GgufValue(std::move(values));
}

uint64_t SmallestBytes(uint32_t type) {
  switch (type) {
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kString:
    case kUint64:
    case kInt64:
    case kFloat64:
      return 8;
    default:
      return 1;
  }
}

absl::StatusOr<GgufValue> ReadTyped(ByteReader& reader, uint32_t type, int64_t count) {
  switch (type) {
    case kUint8:
      return Collect<int64_t>(reader, count, ReadAs<uint8_t, int64_t>);
    case kInt8:
      return Collect<int64_t>(reader, count, ReadAs<int8_t, int64_t>);
    case kUint16:
      return Collect<int64_t>(reader, count, ReadAs<uint16_t, int64_t>);
    case kInt16:
      return Collect<int64_t>(reader, count, ReadAs<int16_t, int64_t>);
    case kUint32:
      return Collect<int64_t>(reader, count, ReadAs<uint32_t, int64_t>);
    case kInt32:
      return Collect<int64_t>(reader, count, ReadAs<int32_t, int64_t>);
    case kUint64:
      return Collect<int64_t>(reader, count, ReadAs<uint64_t, int64_t>);
    case kInt64:
      return Collect<int64_t>(reader, count, ReadAs<int64_t, int64_t>);
    case kFloat32:
      return Collect<double>(reader, count, ReadAs<float, double>);
    case kFloat64:
      return Collect<double>(reader, count, ReadAs<double, double>);
    case kBool:
      return Collect<bool>(reader, count, ReadBool);
    case kString:
      return Collect<absl::string_view>(reader, count, ReadString);
    default:
      return absl::InvalidArgumentError(absl::StrCat("unknown value type ", type));
  }
}

absl::StatusOr<GgufValue> ReadValue(ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint32_t type, reader.Read<uint32_t>());
  if (type != kArray) return ReadTyped(reader, type, -1);
  ASSIGN_OR_RETURN(const uint32_t element, reader.Read<uint32_t>());
  ASSIGN_OR_RETURN(const uint64_t count, reader.Read<uint64_t>());
  if (count > reader.remaining() / SmallestBytes(element)) {
    return absl::InvalidArgumentError(absl::StrCat("array of ", count, " elements with only ",
                                                   reader.remaining(), " bytes left"));
  }
  return ReadTyped(reader, element, static_cast<int64_t>(count));
}

absl::Status ReadMetadata(ByteReader& reader, uint64_t count, GgufFile& file) {
  for (uint64_t i = 0; i < count; ++i) {
    absl::StatusOr<absl::string_view> key = ReadName(reader);
    if (!key.ok()) {
      return Invalid("metadata key", absl::StrCat("#", i), key.status().message());
    }
    absl::StatusOr<GgufValue> value = ReadValue(reader);
    if (!value.ok()) return Invalid("metadata key", *key, value.status().message());
    if (!file.metadata.emplace(std::string(*key), *std::move(value)).second) {
      return Invalid("metadata key", *key, "appears twice");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadAlignment(GgufFile& file) {
  ASSIGN_OR_RETURN(const int64_t alignment, file.IntOr("general.alignment", 32));
  if (alignment <= 0 || alignment > (1 << 20) || (alignment & (alignment - 1)) != 0) {
    return Invalid("metadata key", "general.alignment",
                   absl::StrCat(alignment, " is not a power of two up to 1048576"));
  }
  file.alignment = static_cast<uint64_t>(alignment);
  return absl::OkStatus();
}

struct TensorEntry {
  GgufTensor tensor;
  uint64_t byte_size = 0;
};

// The bytes that `dims` elements of `type` take.
absl::StatusOr<uint64_t> TensorBytes(uint32_t type, absl::Span<const int64_t> dims) {
  const BlockLayout layout = LayoutOf(type);
  if (layout.elements == 0) {
    return absl::InvalidArgumentError(absl::StrCat("unsupported element type ", type));
  }
  if (dims[0] % layout.elements != 0) {
    return absl::InvalidArgumentError(absl::StrCat("row of ", dims[0], " elements is not whole ",
                                                   layout.elements, "-element blocks"));
  }
  int64_t size = dims[0] / layout.elements;
  bool overflow = __builtin_mul_overflow(size, layout.bytes, &size);
  for (size_t i = 1; i < dims.size() && !overflow; ++i) {
    overflow = __builtin_mul_overflow(size, dims[i], &size);
  }
  if (overflow) return absl::InvalidArgumentError("the size in bytes overflows");
  return static_cast<uint64_t>(size);
}

absl::Status ReadDims(ByteReader& reader, std::vector<int64_t>& dims) {
  ASSIGN_OR_RETURN(const uint32_t count, reader.Read<uint32_t>());
  if (count == 0 || count > kMaxDims) {
    return absl::InvalidArgumentError(absl::StrCat(count, " dimensions; the limit is 1 to 4"));
  }
  int64_t elements = 1;
  for (uint32_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const int64_t dim, (ReadAs<uint64_t, int64_t>(reader)));
    if (dim <= 0) return absl::InvalidArgumentError(absl::StrCat("dimension ", i, " is ", dim));
    if (__builtin_mul_overflow(elements, dim, &elements)) {
      return absl::InvalidArgumentError("the number of elements overflows");
    }
    dims.push_back(dim);
  }
  return absl::OkStatus();
}

absl::Status ReadTensorBody(ByteReader& reader, TensorEntry& entry) {
  RETURN_IF_ERROR(ReadDims(reader, entry.tensor.dims));
  ASSIGN_OR_RETURN(const uint32_t type, reader.Read<uint32_t>());
  ASSIGN_OR_RETURN(entry.byte_size, TensorBytes(type, entry.tensor.dims));
  entry.tensor.type = static_cast<GgmlType>(type);
  ASSIGN_OR_RETURN(entry.tensor.offset, reader.Read<uint64_t>());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TensorEntry>> ReadTensorTable(ByteReader& reader, uint64_t count) {
  std::vector<TensorEntry> entries;
  absl::flat_hash_set<absl::string_view> names;
  for (uint64_t i = 0; i < count; ++i) {
    TensorEntry entry;
    absl::StatusOr<absl::string_view> name = ReadName(reader);
    if (!name.ok()) return Invalid("tensor", absl::StrCat("#", i), name.status().message());
    entry.tensor.name = *name;
    if (!names.insert(*name).second) return Invalid("tensor", *name, "appears twice");
    if (absl::Status body = ReadTensorBody(reader, entry); !body.ok()) {
      return Invalid("tensor", *name, body.message());
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::Status PlaceTensor(TensorEntry& entry, ByteView data, uint64_t alignment) {
  GgufTensor& tensor = entry.tensor;
  if (tensor.offset % alignment != 0) {
    return Invalid("tensor", tensor.name,
                   absl::StrCat("offset ", tensor.offset, " is not a multiple of ", alignment));
  }
  if (tensor.offset > data.size() || entry.byte_size > data.size() - tensor.offset) {
    return Invalid("tensor", tensor.name,
                   absl::StrCat("offset ", tensor.offset, " plus ", entry.byte_size,
                                " bytes passes the ", data.size(), " bytes of tensor data"));
  }
  tensor.bytes = data.subspan(tensor.offset, entry.byte_size);
  return absl::OkStatus();
}

absl::Status CheckOverlap(const std::vector<GgufTensor>& tensors) {
  std::vector<const GgufTensor*> order;
  order.reserve(tensors.size());
  for (const GgufTensor& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->offset + order[i - 1]->bytes.size() > order[i]->offset) {
      return Invalid("tensor", order[i]->name,
                     absl::StrCat("overlaps tensor \"", order[i - 1]->name, "\""));
    }
  }
  return absl::OkStatus();
}

struct Header {
  uint64_t tensors = 0;
  uint64_t metadata = 0;
};

absl::StatusOr<Header> ReadHeader(ByteReader& reader, GgufFile& file) {
  ASSIGN_OR_RETURN(const uint32_t magic, reader.Read<uint32_t>());
  if (magic != kMagic) return absl::InvalidArgumentError("not a GGUF file: wrong magic");
  ASSIGN_OR_RETURN(file.version, reader.Read<uint32_t>());
  if (file.version != 2 && file.version != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("gguf version ", file.version, "; 2 and 3 (little-endian) are supported"));
  }
  Header header;
  ASSIGN_OR_RETURN(header.tensors, reader.Read<uint64_t>());
  ASSIGN_OR_RETURN(header.metadata, reader.Read<uint64_t>());
  return header;
}

}  // namespace

absl::StatusOr<GgufFile> ParseGguf(ByteView bytes) {
  GgufFile file;
  ByteReader reader(bytes);
  absl::StatusOr<Header> header = ReadHeader(reader, file);
  if (!header.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("gguf header: ", header.status().message()));
  }
  RETURN_IF_ERROR(ReadMetadata(reader, header->metadata, file));
  RETURN_IF_ERROR(ReadAlignment(file));
  ASSIGN_OR_RETURN(std::vector<TensorEntry> entries, ReadTensorTable(reader, header->tensors));

  const uint64_t padding = (file.alignment - reader.offset() % file.alignment) % file.alignment;
  const uint64_t data_start = std::min<uint64_t>(reader.offset() + padding, bytes.size());
  const ByteView data = bytes.subspan(data_start);
  for (TensorEntry& entry : entries) {
    RETURN_IF_ERROR(PlaceTensor(entry, data, file.alignment));
    file.tensors.push_back(std::move(entry.tensor));
  }
  RETURN_IF_ERROR(CheckOverlap(file.tensors));
  return file;
}

}  // namespace reprise
