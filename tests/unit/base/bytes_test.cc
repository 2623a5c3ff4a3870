#include "core/base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace reprise {
namespace {

using ::testing::HasSubstr;

TEST(ByteReaderTest, ReadsLittleEndianValuesInOrder) {
  const uint8_t bytes[] = {0x01, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12, 'a', 'b'};
  ByteReader reader(bytes);
  EXPECT_EQ(*reader.Read<uint8_t>(), 1);
  EXPECT_EQ(*reader.Read<uint16_t>(), 0x1234);
  EXPECT_EQ(*reader.Read<uint32_t>(), 0x12345678u);
  EXPECT_EQ(AsText(*reader.ReadBytes(2)), "ab");
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_TRUE(reader.ReadBytes(0)->empty());
}

TEST(ByteReaderTest, StaysWhereItWasWhenAReadPassesTheEnd) {
  const uint8_t bytes[] = {1, 2, 3};
  ByteReader reader(bytes);
  ASSERT_TRUE(reader.Read<uint8_t>().ok());
  const auto value = reader.Read<uint32_t>();
  EXPECT_EQ(value.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(value.status().message(), HasSubstr("byte 1: wanted 4 bytes, 2 left"));
  EXPECT_EQ(reader.ReadBytes(3).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(reader.ReadBytes(std::numeric_limits<uint64_t>::max()).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(reader.offset(), 1u);
  EXPECT_EQ(*reader.Read<uint16_t>(), 0x0302);
}

TEST(ByteReaderTest, HasNothingToReadInAnEmptyView) {
  ByteReader reader({});
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_FALSE(reader.Read<uint8_t>().ok());
}

TEST(ByteViewTest, TextAndBytesAreTheSameMemory) {
  const std::string text("a\0\xff", 3);
  EXPECT_EQ(AsBytes(text).size(), 3u);
  EXPECT_EQ(AsBytes(text)[2], 0xff);
  EXPECT_EQ(AsText(AsBytes(text)), text);
}

}  // namespace
}  // namespace reprise
