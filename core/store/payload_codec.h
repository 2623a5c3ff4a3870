// How a payload lies on disk: as it is, or smaller. A payload is KV values of 2 or 4 bytes.
//
//   kLossless  bit exact. Values are split into planes of their bytes: exponents are alike
//              and compress (zstd), mantissas hardly do and are kept as they are.
//   kInt8      bf16 values, rounded to 8 bits with a bf16 scale for 64 values that lie
//              together: 1.94 times smaller, another value than was stored.
//
// Layout     little-endian. kLossless: u8 bytes of a value, then for each 128 KiB of payload
//            and each plane u32 size and that many bytes: the plane where it is as long,
//            else a zstd frame. kInt8: the scales, then a byte for each value.
// Threading  pure.
// Source     byte planes: Masui et al. 2015, arXiv 1503.00638 (bitshuffle), by bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/bytes.h"

namespace reprise {

enum class PayloadCodec : uint8_t { kRaw = 0, kLossless = 1, kInt8 = 2 };

const char* PayloadCodecName(PayloadCodec codec);  // "raw", "lossless", "int8"

// kInvalidArgument: a size or a width of values that the codec cannot take.
absl::StatusOr<std::vector<uint8_t>> CompressPayload(PayloadCodec codec, int value_bytes,
                                                     ByteView payload);

// `out` is as long as the payload was. kDataLoss: `stored` is not what CompressPayload made
// of so long a payload; `out` is then anything.
absl::Status DecompressPayload(PayloadCodec codec, ByteView stored, MutableByteView out);

}  // namespace reprise
