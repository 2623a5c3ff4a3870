#include "core/engine/compression.h"

#include <gtest/gtest.h>

#include "tests/fakes/simulated_clock.h"

namespace reprise {
namespace {

TEST(CompressionTest, PaysOnASlowDiskAndNotFromMemory) {
  struct Case {
    double bandwidth;
    CompressionRates rates;
    bool pays;
  };
  for (const Case& c : {Case{50e6, {0.75, 2e9}, true}, Case{400e6, {0.75, 2e9}, true},
                        Case{600e6, {0.75, 2e9}, false}, Case{10e9, {0.75, 2e9}, false},
                        Case{50e6, {1.0, 2e9}, false}, Case{900e6, {0.5, 2e9}, true},
                        Case{900e6, {0.5, 1e9}, false}}) {
    EXPECT_EQ(PaysToCompress(c.bandwidth, c.rates), c.pays)
        << c.bandwidth << " " << c.rates.ratio << " " << c.rates.decoded_bytes_per_second;
  }
}

TEST(CompressionTest, ASegmentBecomesSmallerComesBackAndTeachesItsRatio) {
  const SimulatedClock clock;
  const std::vector<uint8_t> payload(4096, 7);
  for (const PayloadCodec codec : {PayloadCodec::kRaw, PayloadCodec::kLossless}) {
    SegmentWrite write;
    write.payload = payload;
    CompressionRates rates;
    Compress(codec, 2, clock, write, rates);
    EXPECT_EQ(write.record.codec, codec);
    EXPECT_EQ(write.record.payload_bytes, 4096);
    EXPECT_EQ(write.record.stored_bytes, static_cast<int64_t>(write.payload.size()));
    const bool raw = codec == PayloadCodec::kRaw;
    EXPECT_EQ(write.payload.size() < payload.size(), !raw);
    EXPECT_EQ(rates.ratio < CompressionRates().ratio, !raw);
    std::vector<uint8_t> out(payload.size());
    ASSERT_TRUE(DecompressPayload(codec, write.payload, absl::MakeSpan(out)).ok());
    EXPECT_EQ(out, payload);
  }
}

TEST(CompressionTest, WhatDoesNotGetSmallerStaysAsItIs) {
  const SimulatedClock clock;
  SegmentWrite write;
  write.payload = {1, 2, 3, 4};
  CompressionRates rates;
  Compress(PayloadCodec::kLossless, 2, clock, write, rates);
  EXPECT_EQ(write.record.codec, PayloadCodec::kRaw);
  EXPECT_EQ(write.payload, (std::vector<uint8_t>{1, 2, 3, 4}));
}

}  // namespace
}  // namespace reprise
