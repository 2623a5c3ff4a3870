#include "core/text/byte_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise {
namespace {

using ::testing::ElementsAre;

TEST(ByteTokenizerTest, GivesOneIdAByteAndTheBytesBack) {
  const auto tokenizer = CreateByteTokenizer();
  EXPECT_THAT(*tokenizer->Encode("aé"), ElementsAre('a', 0xC3, 0xA9));
  EXPECT_TRUE(tokenizer->Encode("")->empty());
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokenizer->TokenBytes(byte), std::string(1, static_cast<char>(byte)));
    EXPECT_FALSE(tokenizer->IsSpecial(byte));
  }
}

TEST(ByteTokenizerTest, RefusesInvalidUtf8AndNamesTheByte) {
  const absl::Status status = CreateByteTokenizer()->Encode("ab\xFF").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "text is not valid UTF-8 at byte 2");
}

TEST(ByteTokenizerTest, HasOneSpecialTokenThatTextNeverBecomes) {
  const auto tokenizer = CreateByteTokenizer();
  ASSERT_EQ(tokenizer->eos_id(), 256);
  EXPECT_EQ(tokenizer->vocabulary_size(), 257);
  const std::string literal(tokenizer->TokenBytes(256));
  EXPECT_EQ(tokenizer->SpecialToken(literal), 256);
  EXPECT_EQ(tokenizer->SpecialToken("<|im_end|>"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(256));
  EXPECT_EQ(tokenizer->Encode(literal)->size(), literal.size());
  EXPECT_TRUE(tokenizer->TokenBytes(-1).empty());
  EXPECT_TRUE(tokenizer->TokenBytes(257).empty());
}

}  // namespace
}  // namespace reprise
