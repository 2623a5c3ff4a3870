#include "core/store/segment_codec.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

constexpr uint32_t kSegmentMagic = 0x47535052;  // "RPSG"
constexpr uint32_t kRecordMagic = 0x43525052;   // "RPRC"
constexpr uint32_t kPromptMagic = 0x4d505052;   // "RPPM"
constexpr size_t kHeaderBytes = 2 * sizeof(uint32_t) + sizeof(Checksum128);
constexpr uint32_t kMaxPromptIds = 1u << 24;
constexpr uint32_t kMaxDimensions = 1u << 16;

class Writer {
 public:
  Writer() : out_(kHeaderBytes, '\0') {}

  template <typename T>
  void Put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    out_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  template <typename T>
  void PutList(const std::vector<T>& values) {
    Put(static_cast<uint32_t>(values.size()));
    out_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }

  void PutBytes(ByteView bytes) {
    out_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  std::string Finish(uint32_t magic) {
    const uint32_t version = kSegmentFormatVersion;
    std::memcpy(out_.data(), &magic, sizeof(magic));
    std::memcpy(out_.data() + sizeof(magic), &version, sizeof(version));
    const Checksum128 checksum = Xxh3Checksum({AsBytes(out_).subspan(kHeaderBytes)});
    std::memcpy(out_.data() + 2 * sizeof(uint32_t), &checksum, sizeof(checksum));
    return std::move(out_);
  }

 private:
  std::string out_;
};

// Checks the header; returns the bytes behind it.
absl::StatusOr<ByteView> OpenValue(ByteView value, uint32_t magic) {
  ByteReader reader(value);
  ASSIGN_OR_RETURN(const uint32_t found_magic, reader.Read<uint32_t>());
  ASSIGN_OR_RETURN(const uint32_t version, reader.Read<uint32_t>());
  ASSIGN_OR_RETURN(const Checksum128 checksum, reader.Read<Checksum128>());
  if (found_magic != magic || version != kSegmentFormatVersion) {
    return absl::DataLossError(absl::StrCat("value of kind ", found_magic, " version ", version));
  }
  const ByteView rest = value.subspan(kHeaderBytes);
  if (Xxh3Checksum({rest}) != checksum) return absl::DataLossError("checksum mismatch");
  return rest;
}

template <typename T>
absl::Status ReadInto(ByteReader& reader, T& out) {
  ASSIGN_OR_RETURN(out, reader.Read<T>());
  return absl::OkStatus();
}

template <typename T>
absl::StatusOr<std::vector<T>> ReadList(ByteReader& reader, uint32_t limit) {
  ASSIGN_OR_RETURN(const uint32_t count, reader.Read<uint32_t>());
  if (count > limit) return absl::DataLossError(absl::StrCat("list of ", count, ", limit ", limit));
  ASSIGN_OR_RETURN(const ByteView bytes, reader.ReadBytes(uint64_t{count} * sizeof(T)));
  std::vector<T> values(count);
  if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// The fields that say which KV a segment holds; shared by segments and records.
void PutName(const SegmentRecord& record, Writer& writer) {
  writer.Put(record.key);
  writer.Put(record.parent);
  writer.Put(record.identity);
  writer.Put(static_cast<uint32_t>(record.kind));
  writer.Put(record.start_position);
  writer.PutList(record.ids);
}

absl::Status CheckShape(const SegmentRecord& record) {
  const bool full = record.kind == SegmentKind::kFull;
  const size_t count = record.ids.size();
  const bool ids_fit = full ? count == kSegmentTokens : count >= 1 && count < kSegmentTokens;
  if (ids_fit && record.start_position >= 0 && record.start_position % kSegmentTokens == 0) {
    return absl::OkStatus();
  }
  return absl::DataLossError("kind, ids and position do not fit each other");
}

absl::StatusOr<SegmentRecord> ReadName(ByteReader& reader) {
  SegmentRecord record;
  RETURN_IF_ERROR(ReadInto(reader, record.key));
  RETURN_IF_ERROR(ReadInto(reader, record.parent));
  RETURN_IF_ERROR(ReadInto(reader, record.identity));
  ASSIGN_OR_RETURN(const uint32_t kind, reader.Read<uint32_t>());
  if (kind != 1 && kind != 2) return absl::DataLossError(absl::StrCat("segment kind ", kind));
  record.kind = static_cast<SegmentKind>(kind);
  RETURN_IF_ERROR(ReadInto(reader, record.start_position));
  ASSIGN_OR_RETURN(record.ids, ReadList<TokenId>(reader, kSegmentTokens));
  RETURN_IF_ERROR(CheckShape(record));
  return record;
}

}  // namespace

SegmentKey ComputeSegmentKey(SegmentKind kind, const SegmentKey& parent,
                             absl::Span<const TokenId> ids) {
  return DigestBuilder()
      .Add("kind", kind == SegmentKind::kFull ? "seg" : "tail")
      .Add("parent", parent)
      .Add("ids", ids)
      .Finish();
}

std::string EncodeSegment(const SegmentRecord& record, ByteView payload) {
  Writer writer;
  PutName(record, writer);
  writer.Put(static_cast<uint64_t>(payload.size()));
  writer.PutBytes(payload);
  return writer.Finish(kSegmentMagic);
}

absl::Status DecodeSegment(ByteView value, const SegmentRecord& record, MutableByteView out) {
  ASSIGN_OR_RETURN(const ByteView rest, OpenValue(value, kSegmentMagic));
  ByteReader reader(rest);
  ASSIGN_OR_RETURN(const SegmentRecord stored, ReadName(reader));
  if (stored.key != record.key || stored.parent != record.parent ||
      stored.identity != record.identity || stored.kind != record.kind ||
      stored.start_position != record.start_position || stored.ids != record.ids) {
    return absl::DataLossError("the segment is not the one its key names");
  }
  ASSIGN_OR_RETURN(const uint64_t size, reader.Read<uint64_t>());
  if (size != out.size() || size != reader.remaining()) {
    return absl::DataLossError(absl::StrCat("payload of ", size, " bytes, expected ", out.size()));
  }
  ASSIGN_OR_RETURN(const ByteView payload, reader.ReadBytes(size));
  std::copy(payload.begin(), payload.end(), out.begin());
  return absl::OkStatus();
}

std::string EncodeRecord(const SegmentRecord& record) {
  Writer writer;
  PutName(record, writer);
  writer.Put(record.payload_bytes);
  writer.Put(record.created_unix_ms);
  writer.Put(record.last_used_unix_ms);
  writer.Put(record.hit_count);
  writer.Put(static_cast<uint8_t>(record.pinned));
  writer.Put(record.expires_unix_ms);
  return writer.Finish(kRecordMagic);
}

absl::StatusOr<SegmentRecord> DecodeRecord(ByteView value) {
  ASSIGN_OR_RETURN(const ByteView rest, OpenValue(value, kRecordMagic));
  ByteReader reader(rest);
  ASSIGN_OR_RETURN(SegmentRecord record, ReadName(reader));
  RETURN_IF_ERROR(ReadInto(reader, record.payload_bytes));
  RETURN_IF_ERROR(ReadInto(reader, record.created_unix_ms));
  RETURN_IF_ERROR(ReadInto(reader, record.last_used_unix_ms));
  RETURN_IF_ERROR(ReadInto(reader, record.hit_count));
  if (reader.remaining() > 0) {  // records of earlier versions end here
    ASSIGN_OR_RETURN(const uint8_t pinned, reader.Read<uint8_t>());
    record.pinned = pinned != 0;
    RETURN_IF_ERROR(ReadInto(reader, record.expires_unix_ms));
  }
  if (record.payload_bytes < 0) return absl::DataLossError("negative payload size");
  return record;
}

std::string EncodePrompt(const PromptRecord& prompt) {
  Writer writer;
  writer.Put(prompt.id);
  writer.Put(prompt.identity);
  writer.Put(prompt.created_unix_ms);
  writer.PutList(prompt.ids);
  writer.PutList(prompt.embedding);
  return writer.Finish(kPromptMagic);
}

absl::StatusOr<PromptRecord> DecodePrompt(ByteView value) {
  ASSIGN_OR_RETURN(const ByteView rest, OpenValue(value, kPromptMagic));
  ByteReader reader(rest);
  PromptRecord prompt;
  RETURN_IF_ERROR(ReadInto(reader, prompt.id));
  RETURN_IF_ERROR(ReadInto(reader, prompt.identity));
  RETURN_IF_ERROR(ReadInto(reader, prompt.created_unix_ms));
  ASSIGN_OR_RETURN(prompt.ids, ReadList<TokenId>(reader, kMaxPromptIds));
  ASSIGN_OR_RETURN(prompt.embedding, ReadList<float>(reader, kMaxDimensions));
  return prompt;
}

}  // namespace reprise
