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

  // `behind` follows the value, which does not hold it.
  std::string Finish(uint32_t magic, ByteView behind = {}) {
    const uint32_t version = kSegmentFormatVersion;
    std::memcpy(out_.data(), &magic, sizeof(magic));
    std::memcpy(out_.data() + sizeof(magic), &version, sizeof(version));
    const Checksum128 checksum = Xxh3Checksum({AsBytes(out_).subspan(kHeaderBytes), behind});
    std::memcpy(out_.data() + 2 * sizeof(uint32_t), &checksum, sizeof(checksum));
    return std::move(out_);
  }

 private:
  std::string out_;
};

// Checks the kind and version; returns the checksum, which covers what is left to read.
absl::StatusOr<Checksum128> ReadHeader(ByteReader& reader, uint32_t magic) {
  ASSIGN_OR_RETURN(const uint32_t found_magic, reader.Read<uint32_t>());
  ASSIGN_OR_RETURN(const uint32_t version, reader.Read<uint32_t>());
  if (found_magic != magic || version != kSegmentFormatVersion) {
    return absl::DataLossError(absl::StrCat("value of kind ", found_magic, " version ", version));
  }
  return reader.Read<Checksum128>();
}

// Checks the header and the checksum; returns the bytes behind it.
absl::StatusOr<ByteView> OpenValue(ByteView value, uint32_t magic) {
  ByteReader reader(value);
  ASSIGN_OR_RETURN(const Checksum128 checksum, ReadHeader(reader, magic));
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

absl::StatusOr<PayloadCodec> ReadCodec(ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint32_t codec, reader.Read<uint32_t>());
  if (codec <= static_cast<uint32_t>(PayloadCodec::kInt8)) return static_cast<PayloadCodec>(codec);
  return absl::DataLossError(absl::StrCat("payload codec ", codec));
}

// A piece is hashed, where asked for, and handed over while it is in the cache.
absl::Status HandOver(ByteView payload, const PayloadSink& sink, ChecksumBuilder* checksum) {
  const auto piece_bytes = static_cast<size_t>(std::max<int64_t>(sink.piece_bytes, 1));
  for (size_t at = 0; at < payload.size(); at += piece_bytes) {
    const ByteView piece = payload.subspan(at, piece_bytes);
    if (checksum != nullptr) checksum->Add(piece);
    RETURN_IF_ERROR(sink.take(at / piece_bytes, piece));
  }
  return absl::OkStatus();
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

absl::Status CheckShape(const SegmentRecord& record, size_t count) {
  const bool full = record.kind == SegmentKind::kFull;
  const bool ids_fit = full ? count == kSegmentTokens : count >= 1 && count < kSegmentTokens;
  if (ids_fit && record.start_position >= 0 && record.start_position % kSegmentTokens == 0) {
    return absl::OkStatus();
  }
  return absl::DataLossError("kind, ids and position do not fit each other");
}

absl::StatusOr<SegmentRecord> ReadName(ByteReader& reader, bool with_ids = true) {
  SegmentRecord record;
  RETURN_IF_ERROR(ReadInto(reader, record.key));
  RETURN_IF_ERROR(ReadInto(reader, record.parent));
  RETURN_IF_ERROR(ReadInto(reader, record.identity));
  ASSIGN_OR_RETURN(const uint32_t kind, reader.Read<uint32_t>());
  if (kind != 1 && kind != 2) return absl::DataLossError(absl::StrCat("segment kind ", kind));
  record.kind = static_cast<SegmentKind>(kind);
  RETURN_IF_ERROR(ReadInto(reader, record.start_position));
  ASSIGN_OR_RETURN(const uint32_t count, reader.Read<uint32_t>());
  RETURN_IF_ERROR(CheckShape(record, count));
  ASSIGN_OR_RETURN(const ByteView ids, reader.ReadBytes(uint64_t{count} * sizeof(TokenId)));
  if (with_ids) {
    record.ids.resize(count);
    std::memcpy(record.ids.data(), ids.data(), ids.size());
  }
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

std::string EncodeSegmentHeader(const SegmentRecord& record, ByteView payload) {
  Writer writer;
  const bool raw = record.codec == PayloadCodec::kRaw;
  PutName(record, writer);
  writer.Put(static_cast<uint32_t>(record.codec));
  writer.Put(raw ? static_cast<uint64_t>(payload.size())
                 : static_cast<uint64_t>(record.payload_bytes));
  writer.Put(static_cast<uint64_t>(payload.size()));
  return writer.Finish(kSegmentMagic, payload);
}

std::string EncodeSegment(const SegmentRecord& record, ByteView payload) {
  return absl::StrCat(EncodeSegmentHeader(record, payload), AsText(payload));
}

absl::Status DecodeSegment(ByteView value, const SegmentRecord& record, MutableByteView out) {
  if (out.empty()) return absl::InvalidArgumentError("no room for a payload");
  const PayloadSink sink{static_cast<int64_t>(out.size()), [&](size_t index, ByteView piece) {
                           if (index > 0 || piece.size() != out.size()) {
                             return absl::DataLossError(absl::StrCat(
                                 "payload of more or less than ", out.size(), " bytes"));
                           }
                           std::copy(piece.begin(), piece.end(), out.begin());
                           return absl::OkStatus();
                         }};
  return DecodeSegmentInto(value, record, sink);
}

absl::Status DecodeSegmentInto(ByteView value, const SegmentRecord& record,
                               const PayloadSink& sink) {
  ByteReader reader(value);
  ASSIGN_OR_RETURN(const Checksum128 checksum, ReadHeader(reader, kSegmentMagic));
  ASSIGN_OR_RETURN(const SegmentRecord stored, ReadName(reader));
  if (stored.key != record.key || stored.parent != record.parent ||
      stored.identity != record.identity || stored.kind != record.kind ||
      stored.start_position != record.start_position || stored.ids != record.ids) {
    return absl::DataLossError("the segment is not the one its key names");
  }
  ASSIGN_OR_RETURN(const PayloadCodec codec, ReadCodec(reader));
  ASSIGN_OR_RETURN(const uint64_t size, reader.Read<uint64_t>());
  ASSIGN_OR_RETURN(const uint64_t stored_size, reader.Read<uint64_t>());
  if (stored_size != reader.remaining() || (codec == PayloadCodec::kRaw && size != stored_size)) {
    return absl::DataLossError(absl::StrCat("payload of ", size, " bytes in ", stored_size,
                                            ", stored are ", reader.remaining()));
  }
  ChecksumBuilder found;
  found.Add(value.subspan(kHeaderBytes, reader.offset() - kHeaderBytes));
  const ByteView payload = value.subspan(reader.offset());
  if (codec == PayloadCodec::kRaw) {
    RETURN_IF_ERROR(HandOver(payload, sink, &found));
    return found.Finish() == checksum ? absl::OkStatus() : absl::DataLossError("checksum mismatch");
  }
  found.Add(payload);
  if (found.Finish() != checksum) return absl::DataLossError("checksum mismatch");
  if (static_cast<int64_t>(size) != record.payload_bytes) {
    return absl::DataLossError(
        absl::StrCat("payload of ", size, " bytes, expected ", record.payload_bytes));
  }
  std::vector<uint8_t> whole(size);
  RETURN_IF_ERROR(DecompressPayload(codec, payload, absl::MakeSpan(whole)));
  return HandOver(whole, sink, nullptr);
}

std::string EncodeRecord(const SegmentRecord& record) {
  Writer writer;
  PutName(record, writer);
  writer.Put(record.payload_bytes);
  writer.Put(record.stored_bytes);
  writer.Put(static_cast<uint32_t>(record.codec));
  writer.Put(record.created_unix_ms);
  writer.Put(record.last_used_unix_ms);
  writer.Put(record.hit_count);
  writer.Put(record.cohort);
  writer.Put(record.cohort_bytes);
  writer.Put(static_cast<uint8_t>(record.pinned));
  writer.Put(record.expires_unix_ms);
  return writer.Finish(kRecordMagic);
}

namespace {

absl::StatusOr<SegmentRecord> ReadRecord(ByteView value, bool with_ids) {
  ASSIGN_OR_RETURN(const ByteView rest, OpenValue(value, kRecordMagic));
  ByteReader reader(rest);
  ASSIGN_OR_RETURN(SegmentRecord record, ReadName(reader, with_ids));
  RETURN_IF_ERROR(ReadInto(reader, record.payload_bytes));
  RETURN_IF_ERROR(ReadInto(reader, record.stored_bytes));
  ASSIGN_OR_RETURN(record.codec, ReadCodec(reader));
  RETURN_IF_ERROR(ReadInto(reader, record.created_unix_ms));
  RETURN_IF_ERROR(ReadInto(reader, record.last_used_unix_ms));
  RETURN_IF_ERROR(ReadInto(reader, record.hit_count));
  RETURN_IF_ERROR(ReadInto(reader, record.cohort));
  RETURN_IF_ERROR(ReadInto(reader, record.cohort_bytes));
  if (record.payload_bytes < 0 || record.stored_bytes < 0 || record.cohort_bytes < 0) {
    return absl::DataLossError("negative size");
  }
  if (reader.remaining() == 0) return record;  // written before records had marks: it has none
  ASSIGN_OR_RETURN(const uint8_t pinned, reader.Read<uint8_t>());
  if (pinned > 1) return absl::DataLossError("pinned is neither 0 nor 1");
  record.pinned = pinned == 1;
  RETURN_IF_ERROR(ReadInto(reader, record.expires_unix_ms));
  return record;
}

}  // namespace

absl::StatusOr<SegmentRecord> DecodeRecord(ByteView value) { return ReadRecord(value, true); }

absl::StatusOr<SegmentRecord> DecodeRecordFacts(ByteView value) { return ReadRecord(value, false); }

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
