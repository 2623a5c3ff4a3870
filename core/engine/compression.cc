#include "core/engine/compression.h"

#include <algorithm>

namespace reprise {
namespace {

constexpr double kSmoothing = 0.2;  // weight of one observation
constexpr double kLeastSeconds = 1e-6;

}  // namespace

bool PaysToCompress(double bytes_per_second, const CompressionRates& rates) {
  return rates.ratio / bytes_per_second + 1 / rates.decoded_bytes_per_second < 1 / bytes_per_second;
}

void Compress(PayloadCodec codec, int value_bytes, const Clock& clock, SegmentWrite& write,
              CompressionRates& rates) {
  SegmentRecord& record = write.record;
  record.stored_bytes = record.payload_bytes = static_cast<int64_t>(write.payload.size());
  record.codec = PayloadCodec::kRaw;
  if (codec == PayloadCodec::kRaw || write.payload.empty()) return;
  auto stored = CompressPayload(codec, value_bytes, write.payload);
  if (!stored.ok()) return;
  const auto size = static_cast<double>(write.payload.size());
  rates.ratio += kSmoothing * (static_cast<double>(stored->size()) / size - rates.ratio);
  if (stored->size() >= write.payload.size()) return;
  const absl::Duration before = clock.Monotonic();
  if (!DecompressPayload(codec, *stored, absl::MakeSpan(write.payload)).ok()) return;
  const double seconds = std::max(absl::ToDoubleSeconds(clock.Monotonic() - before), kLeastSeconds);
  rates.decoded_bytes_per_second += kSmoothing * (size / seconds - rates.decoded_bytes_per_second);
  record.codec = codec;
  record.stored_bytes = static_cast<int64_t>(stored->size());
  write.payload = *std::move(stored);
}

}  // namespace reprise
