// The stored form of segments, records and prompts: a header, the fields, an
// XXH3-128 over all of it. Decoding treats the bytes as hostile.
//
// Errors  kDataLoss: damaged, truncated, of another version, or not what the
//         caller asked for.
// Layout  little-endian; u32 magic, u32 version, u128 checksum over the rest,
//         then the fields, then (segments) the payload.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/store/kv_store.h"

namespace reprise {

// Part of the identity of KV: raised when the layout of a value changes.
inline constexpr uint32_t kSegmentFormatVersion = 2;

std::string EncodeSegment(const SegmentRecord& record, ByteView payload);

// What stands before the payload, so that a large one need not be copied behind it.
std::string EncodeSegmentHeader(const SegmentRecord& record, ByteView payload);

// Verifies that `value` is the segment `record` names and copies its payload.
absl::Status DecodeSegment(ByteView value, const SegmentRecord& record, MutableByteView out);

// As DecodeSegment, into a sink; of a compressed payload `record` says how long it was.
absl::Status DecodeSegmentInto(ByteView value, const SegmentRecord& record,
                               const PayloadSink& sink);

std::string EncodeRecord(const SegmentRecord& record);
absl::StatusOr<SegmentRecord> DecodeRecord(ByteView value);

// As DecodeRecord, without the ids: nothing is allocated.
absl::StatusOr<SegmentRecord> DecodeRecordFacts(ByteView value);

std::string EncodePrompt(const PromptRecord& prompt);
absl::StatusOr<PromptRecord> DecodePrompt(ByteView value);

}  // namespace reprise
