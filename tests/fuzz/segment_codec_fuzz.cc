// Stored values. Each input is decoded as it is and once more under a checksum that
// fits it, so that what lies behind the checksum is reached.
#include <algorithm>
#include <cstring>

#include "core/store/segment_codec.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

constexpr size_t kChecksumAt = 8, kFieldsAt = 24;

SegmentRecord Record(SegmentKind kind) {
  SegmentRecord record;
  record.kind = kind;
  record.ids.resize(kind == SegmentKind::kFull ? kSegmentTokens : 5, 7);
  record.start_position = kSegmentTokens;
  record.key.fill(1);
  record.parent.fill(2);
  record.identity.fill(3);
  record.hit_count = 4;
  record.payload_bytes = 40;
  return record;
}

PromptRecord Prompt() {
  PromptRecord prompt;
  prompt.id = 9;
  prompt.ids = {1, 2, 3};
  prompt.embedding = {0.6f, 0.8f};
  return prompt;
}

// Of one payload there may be several frames.
bool IsCompressed(ByteView value) {
  const std::vector<uint8_t> none(1);
  const SegmentRecord full = Record(SegmentKind::kFull), tail = Record(SegmentKind::kTail);
  for (const SegmentRecord& record : {full, tail}) {
    const size_t codec_at = EncodeSegmentHeader(record, none).size() - 2 * sizeof(uint64_t) - 4;
    if (value.size() > codec_at && value[codec_at] != 0) return true;
  }
  return false;
}

std::string Compressed(PayloadCodec codec, const std::vector<uint8_t>& payload) {
  SegmentRecord record = Record(SegmentKind::kFull);
  record.codec = codec;
  return EncodeSegment(record, *CompressPayload(codec, 2, payload));
}

void DecodeAll(ByteView value) {
  if (const auto record = DecodeRecord(value); record.ok()) {
    // One without marks is written with them, so that its checksum is another.
    constexpr size_t kHeaderBytes = 2 * sizeof(uint32_t) + sizeof(Checksum128);
    const std::string written = EncodeRecord(*record);
    const ByteView fields = value.subspan(kHeaderBytes);
    Require(written.size() < value.size() ||
                AsBytes(written).subspan(kHeaderBytes).first(fields.size()) == fields,
            "a record is written as it was read");
  }
  if (const auto prompt = DecodePrompt(value); prompt.ok()) {
    Require(EncodePrompt(*prompt).size() <= value.size(), "a prompt holds what was read");
  }
  std::vector<uint8_t> payload(40, 0xEE);
  for (const SegmentKind kind : {SegmentKind::kFull, SegmentKind::kTail}) {
    const bool read = DecodeSegment(value, Record(kind), absl::MakeSpan(payload)).ok();
    Require(!read || IsCompressed(value) || AsBytes(EncodeSegment(Record(kind), payload)) == value,
            "a segment that is read is the one that was asked for");
  }
  for (const PayloadCodec codec :
       {PayloadCodec::kRaw, PayloadCodec::kLossless, PayloadCodec::kInt8}) {
    DecompressPayload(codec, value, absl::MakeSpan(payload)).IgnoreError();
  }
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  const std::vector<uint8_t> payload(40, 5);
  return {EncodeSegment(Record(SegmentKind::kFull), payload),
          EncodeSegment(Record(SegmentKind::kTail), payload),
          EncodeRecord(Record(SegmentKind::kFull)),
          EncodeRecord(Record(SegmentKind::kTail)),
          Compressed(PayloadCodec::kLossless, payload),
          Compressed(PayloadCodec::kInt8, payload),
          EncodePrompt(Prompt())};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  fuzz::DecodeAll(ByteView(data, size));
  if (size < fuzz::kFieldsAt) return 0;
  std::string sealed(fuzz::Text(data, size));
  const Checksum128 checksum = Xxh3Checksum({AsBytes(sealed).subspan(fuzz::kFieldsAt)});
  std::memcpy(&sealed[fuzz::kChecksumAt], &checksum, sizeof(checksum));
  fuzz::DecodeAll(AsBytes(sealed));
  return 0;
}
