// When segments are worth compressing, and what that is measured by.
//
//   raw         bytes / bandwidth
//   compressed  ratio * bytes / bandwidth + bytes / decode rate
//
// Threading  pure, but for the clock.
#pragma once

#include "core/base/clock.h"
#include "core/store/kv_store.h"

namespace reprise {

struct CompressionRates {
  double ratio = 0.75;                    // bytes on disk of a byte; the first ones are guesses
  double decoded_bytes_per_second = 2e9;  // on one core
};

// Whether compressed segments load faster where raw ones load at `bytes_per_second`.
bool PaysToCompress(double bytes_per_second, const CompressionRates& rates);

// Makes `write` what it is on disk: with another codec than kRaw its payload becomes
// smaller, or stays where that is not so. Decodes it once, to learn `rates`.
void Compress(PayloadCodec codec, int value_bytes, const Clock& clock, SegmentWrite& write,
              CompressionRates& rates);

}  // namespace reprise
