#include "core/store/payload_codec.h"

#include <zstd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

constexpr size_t kChunkBytes = size_t{128} << 10;  // its planes stay in the cache
constexpr size_t kRun = 64;                        // values that one inner loop takes
constexpr int kLevel = 1;                          // of zstd: decoding is what counts
constexpr size_t kScaled = 64;                     // values of one scale
constexpr size_t kMostValueBytes = 4;

absl::Status NotWhatWasMade(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("compressed payload: ", what));
}

struct FreeCompressor {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};
struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// Runs have a length that the compiler knows, so that it makes them vectors.
void Split(ByteView chunk, size_t width, size_t plane, uint8_t* out) {
  const size_t values = chunk.size() / width;
  const uint8_t* in = chunk.data() + plane;
  size_t i = 0;
  for (; width == 2 && i + kRun <= values; i += kRun) {
    for (size_t j = 0; j < kRun; ++j) out[i + j] = in[(i + j) * 2];
  }
  for (; i < values; ++i) out[i] = in[i * width];
}

void MergePairs(const uint8_t* low, const uint8_t* high, size_t values, uint8_t* out) {
  size_t i = 0;
  for (; i + kRun <= values; i += kRun) {
    uint16_t pairs[kRun];
    for (size_t j = 0; j < kRun; ++j) {
      pairs[j] = static_cast<uint16_t>(low[i + j] | high[i + j] << 8);
    }
    std::memcpy(out + 2 * i, pairs, sizeof(pairs));
  }
  for (; i < values; ++i) {
    out[2 * i] = low[i];
    out[2 * i + 1] = high[i];
  }
}

void AppendPlane(ZSTD_CCtx* context, const std::vector<uint8_t>& plane, size_t size,
                 std::vector<uint8_t>& out) {
  std::vector<uint8_t> packed(ZSTD_compressBound(size));
  const size_t found =
      ZSTD_compressCCtx(context, packed.data(), packed.size(), plane.data(), size, kLevel);
  // A plane that hardly gets smaller is faster to read as it is.
  const bool pays = !ZSTD_isError(found) && found < size - size / 16;
  const auto stored = static_cast<uint32_t>(pays ? found : size);
  const uint8_t* from = pays ? packed.data() : plane.data();
  const auto* size_bytes = reinterpret_cast<const uint8_t*>(&stored);
  out.insert(out.end(), size_bytes, size_bytes + sizeof(stored));
  out.insert(out.end(), from, from + stored);
}

std::vector<uint8_t> CompressPlanes(size_t width, ByteView payload) {
  const std::unique_ptr<ZSTD_CCtx, FreeCompressor> context(ZSTD_createCCtx());
  std::vector<uint8_t> out = {static_cast<uint8_t>(width)};
  out.reserve(payload.size());
  std::vector<uint8_t> plane(kChunkBytes / width);
  for (size_t at = 0; at < payload.size(); at += kChunkBytes) {
    const ByteView chunk = payload.subspan(at, kChunkBytes);
    for (size_t p = 0; p < width; ++p) {
      Split(chunk, width, p, plane.data());
      AppendPlane(context.get(), plane, chunk.size() / width, out);
    }
  }
  return out;
}

// The plane of `size` bytes that comes next: where it lies, or else unpacked into `room`.
absl::StatusOr<const uint8_t*> NextPlane(ZSTD_DCtx* context, ByteReader& reader, size_t size,
                                         uint8_t* room) {
  ASSIGN_OR_RETURN(const uint32_t stored, reader.Read<uint32_t>());
  ASSIGN_OR_RETURN(const ByteView bytes, reader.ReadBytes(stored));
  if (stored == size) return bytes.data();
  const size_t found = ZSTD_decompressDCtx(context, room, size, bytes.data(), bytes.size());
  if (ZSTD_isError(found) || found != size) return NotWhatWasMade("a plane is of another size");
  return room;
}

absl::Status DecompressPlanes(ByteView stored, MutableByteView out) {
  ByteReader reader(stored);
  ASSIGN_OR_RETURN(const uint8_t width, reader.Read<uint8_t>());
  if ((width != 2 && width != 4) || out.size() % width != 0) {
    return NotWhatWasMade(absl::StrCat("values of ", width, " bytes"));
  }
  const std::unique_ptr<ZSTD_DCtx, FreeDecompressor> context(ZSTD_createDCtx());
  std::vector<uint8_t> room(kChunkBytes);
  for (size_t at = 0; at < out.size(); at += kChunkBytes) {
    const MutableByteView chunk = out.subspan(at, kChunkBytes);
    const size_t values = chunk.size() / width;
    const uint8_t* planes[kMostValueBytes] = {};
    for (size_t p = 0; p < width; ++p) {
      ASSIGN_OR_RETURN(planes[p],
                       NextPlane(context.get(), reader, values, room.data() + p * values));
    }
    if (width == 2) {
      MergePairs(planes[0], planes[1], values, chunk.data());
      continue;
    }
    for (size_t i = 0; i < values; ++i) {
      for (size_t p = 0; p < width; ++p) chunk[i * width + p] = planes[p][i];
    }
  }
  return reader.remaining() == 0 ? absl::OkStatus() : NotWhatWasMade("bytes behind the end");
}

float FromBf16(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value = 0;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// To the nearest, ties to even.
uint16_t ToBf16(float value) {
  uint32_t wide = 0;
  std::memcpy(&wide, &value, sizeof(wide));
  return static_cast<uint16_t>((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16);
}

size_t Scales(size_t values) { return (values + kScaled - 1) / kScaled; }

std::vector<uint8_t> RoundToInt8(ByteView payload) {
  const size_t values = payload.size() / 2;
  std::vector<uint16_t> in(values), scales(Scales(values));
  std::memcpy(in.data(), payload.data(), values * 2);
  std::vector<uint8_t> out(scales.size() * 2 + values);
  for (size_t group = 0; group < scales.size(); ++group) {
    const size_t first = group * kScaled, end = std::min(first + kScaled, values);
    float most = 0;
    for (size_t i = first; i < end; ++i) {
      const float size = std::fabs(FromBf16(in[i]));
      if (std::isfinite(size)) most = std::max(most, size);
    }
    scales[group] = ToBf16(most / 127);
    const float scale = FromBf16(scales[group]);
    for (size_t i = first; i < end; ++i) {
      const float value = FromBf16(in[i]);
      const float steps = scale > 0 && std::isfinite(value) ? value / scale : 0;
      const auto rounded = static_cast<int8_t>(std::clamp(std::nearbyint(steps), -127.0f, 127.0f));
      out[scales.size() * 2 + i] = static_cast<uint8_t>(rounded);
    }
  }
  std::memcpy(out.data(), scales.data(), scales.size() * 2);
  return out;
}

absl::Status FromInt8(ByteView stored, MutableByteView out) {
  const size_t values = out.size() / 2, scales = Scales(values);
  if (out.size() % 2 != 0 || stored.size() != scales * 2 + values) {
    return NotWhatWasMade(absl::StrCat(stored.size(), " bytes for ", values, " values"));
  }
  const uint8_t* rounded = stored.data() + scales * 2;
  for (size_t first = 0; first < values; first += kScaled) {
    uint16_t scale_bits = 0, group[kScaled];
    std::memcpy(&scale_bits, stored.data() + first / kScaled * 2, sizeof(scale_bits));
    const float scale = FromBf16(scale_bits);
    const size_t count = std::min(kScaled, values - first);
    for (size_t i = 0; i < count; ++i) {
      group[i] = ToBf16(scale * static_cast<float>(static_cast<int8_t>(rounded[first + i])));
    }
    std::memcpy(out.data() + first * 2, group, count * 2);
  }
  return absl::OkStatus();
}

}  // namespace

const char* PayloadCodecName(PayloadCodec codec) {
  constexpr const char* kNames[] = {"raw", "lossless", "int8"};
  return kNames[static_cast<size_t>(codec)];
}

absl::StatusOr<std::vector<uint8_t>> CompressPayload(PayloadCodec codec, int value_bytes,
                                                     ByteView payload) {
  if (codec == PayloadCodec::kRaw) return std::vector<uint8_t>(payload.begin(), payload.end());
  const bool fits = value_bytes == 2 || (value_bytes == 4 && codec == PayloadCodec::kLossless);
  if (!fits || payload.size() % static_cast<size_t>(value_bytes) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("payload of ", payload.size(),
                                                   " bytes in values of ", value_bytes,
                                                   ": not for codec ", PayloadCodecName(codec)));
  }
  if (codec == PayloadCodec::kInt8) return RoundToInt8(payload);
  return CompressPlanes(static_cast<size_t>(value_bytes), payload);
}

absl::Status DecompressPayload(PayloadCodec codec, ByteView stored, MutableByteView out) {
  switch (codec) {
    case PayloadCodec::kRaw:
      if (stored.size() != out.size()) return NotWhatWasMade("another size");
      std::copy(stored.begin(), stored.end(), out.begin());
      return absl::OkStatus();
    case PayloadCodec::kLossless:
      return DecompressPlanes(stored, out);
    case PayloadCodec::kInt8:
      return FromInt8(stored, out);
  }
  return NotWhatWasMade(absl::StrCat("codec ", static_cast<int>(codec)));
}

}  // namespace reprise
