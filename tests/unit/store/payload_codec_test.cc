#include "core/store/payload_codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "core/store/segment_codec.h"

namespace reprise {
namespace {

// bf16 values as KV has them: of few magnitudes.
std::vector<uint8_t> Values(size_t count, int seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.5f);
  std::vector<uint8_t> bytes(count * 2);
  for (size_t i = 0; i < count; ++i) {
    const float value = normal(random);
    std::memcpy(&bytes[2 * i], reinterpret_cast<const char*>(&value) + 2, 2);
  }
  return bytes;
}

float ValueAt(const std::vector<uint8_t>& bytes, size_t i) {
  float value = 0;
  std::memcpy(reinterpret_cast<char*>(&value) + 2, &bytes[2 * i], 2);
  return value;
}

TEST(PayloadCodecTest, LosslessGivesBackEveryBitOfAnyPayload) {
  std::mt19937 random(3);
  for (const size_t values : {0, 1, 63, 64, 65, 4096, 65536, 65537, 200001}) {
    std::vector<uint8_t> noise(values * 4);
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
    const std::vector<uint8_t> zeros(values * 4);
    for (const auto& payload : {Values(values, 1), noise, zeros}) {
      for (const int width : {2, 4}) {
        if (payload.size() % static_cast<size_t>(width) != 0) continue;
        const auto stored = CompressPayload(PayloadCodec::kLossless, width, payload);
        ASSERT_TRUE(stored.ok()) << stored.status();
        std::vector<uint8_t> out(payload.size(), 0xEE);
        ASSERT_TRUE(DecompressPayload(PayloadCodec::kLossless, *stored, absl::MakeSpan(out)).ok());
        EXPECT_EQ(out, payload) << values << " values, width " << width;
      }
    }
  }
}

TEST(PayloadCodecTest, KvGetsSmallerByAFifthWithoutLossAndByNearlyHalfAsInt8) {
  const std::vector<uint8_t> payload = Values(1 << 20, 1);
  const auto size = static_cast<double>(payload.size());
  EXPECT_LT(static_cast<double>(CompressPayload(PayloadCodec::kLossless, 2, payload)->size()),
            0.8 * size);
  EXPECT_LT(static_cast<double>(CompressPayload(PayloadCodec::kInt8, 2, payload)->size()),
            size / 1.9);
}

TEST(PayloadCodecTest, Int8IsOffByAtMostAStepOfItsScale) {
  std::vector<uint8_t> payload = Values(1000, 2);
  payload[1] = 0x7F;  // the first value is as good as infinite, and counts as none
  payload[0] = 0x80;
  const auto stored = CompressPayload(PayloadCodec::kInt8, 2, payload);
  ASSERT_TRUE(stored.ok());
  std::vector<uint8_t> out(payload.size());
  ASSERT_TRUE(DecompressPayload(PayloadCodec::kInt8, *stored, absl::MakeSpan(out)).ok());
  for (size_t i = 1; i < 1000; ++i) EXPECT_NEAR(ValueAt(out, i), ValueAt(payload, i), 0.03) << i;
}

TEST(PayloadCodecTest, RefusesWhatItCannotTake) {
  const std::vector<uint8_t> payload(12);
  for (const auto& [codec, width] :
       {std::pair(PayloadCodec::kLossless, 3), std::pair(PayloadCodec::kLossless, 8),
        std::pair(PayloadCodec::kInt8, 4)}) {
    EXPECT_EQ(CompressPayload(codec, width, payload).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_FALSE(CompressPayload(PayloadCodec::kInt8, 2, absl::MakeSpan(payload).first(3)).ok());
}

TEST(PayloadCodecTest, EveryTruncationAndAnotherSizeIsDataLoss) {
  const std::vector<uint8_t> payload = Values(500, 1);
  for (const PayloadCodec codec :
       {PayloadCodec::kRaw, PayloadCodec::kLossless, PayloadCodec::kInt8}) {
    const std::vector<uint8_t> stored = *CompressPayload(codec, 2, payload);
    std::vector<uint8_t> out(payload.size()), longer(payload.size() + 2);
    for (size_t size = 0; size < stored.size(); ++size) {
      const ByteView part = absl::MakeConstSpan(stored).first(size);
      EXPECT_TRUE(absl::IsDataLoss(DecompressPayload(codec, part, absl::MakeSpan(out)))) << size;
    }
    EXPECT_TRUE(absl::IsDataLoss(DecompressPayload(codec, stored, absl::MakeSpan(longer))));
  }
}

TEST(PayloadCodecTest, ASegmentSaysItsCodecAndIsReadByIt) {
  SegmentRecord record;
  record.ids = {1, 2, 3};
  record.kind = SegmentKind::kTail;
  const std::vector<uint8_t> payload = Values(3000, 1);
  for (const PayloadCodec codec : {PayloadCodec::kRaw, PayloadCodec::kLossless}) {
    record.codec = codec;
    record.payload_bytes = static_cast<int64_t>(payload.size());
    const std::string value = EncodeSegment(record, *CompressPayload(codec, 2, payload));
    SegmentRecord asked = record;
    asked.codec = PayloadCodec::kRaw;  // the value says what it is
    std::vector<uint8_t> out(payload.size());
    ASSERT_TRUE(DecodeSegment(AsBytes(value), asked, absl::MakeSpan(out)).ok());
    EXPECT_EQ(out, payload);
    EXPECT_EQ(DecodeRecord(AsBytes(EncodeRecord(record)))->codec, codec);
  }
}

}  // namespace
}  // namespace reprise
