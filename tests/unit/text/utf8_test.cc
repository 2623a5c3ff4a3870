#include "core/text/utf8.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"

namespace reprise {
namespace {

TEST(Utf8Test, EveryCodePointComesBack) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c == 0xD800) c = 0xE000;  // surrogates are no characters
    std::string text;
    AppendUtf8(c, text);
    const Utf8Character decoded = DecodeUtf8(text, 0);
    ASSERT_TRUE(decoded.valid) << static_cast<uint32_t>(c);
    ASSERT_EQ(decoded.code_point, c);
    ASSERT_EQ(decoded.length, text.size());
  }
}

TEST(Utf8Test, EveryProperBeginningOfACharacterIsTruncated) {
  for (const std::string text : {"é", "€", "😀", "\xE0\xA0\x80", "\xF4\x8F\xBF\xBF"}) {
    for (size_t size = 1; size < text.size(); ++size) {
      const Utf8Character c = DecodeUtf8(text.substr(0, size), 0);
      EXPECT_TRUE(c.truncated && !c.valid) << absl::CHexEscape(text) << " " << size;
      EXPECT_EQ(c.length, size);
    }
  }
}

TEST(Utf8Test, SkipsTheLongestPartThatCouldHaveBegunACharacter) {
  struct Case {
    const char* name;
    std::string text;
    size_t length;
  };
  const Case cases[] = {
      {"continuation alone", "\x80", 1},
      {"overlong slash", "\xC0\xAF", 1},
      {"overlong in two", "\xC1\xBF", 1},
      {"overlong in three", "\xE0\x80\xAF", 1},
      {"overlong in four", "\xF0\x80\x80\xAF", 1},
      {"surrogate", "\xED\xA0\x80", 1},
      {"past U+10FFFF", "\xF4\x90\x80\x80", 1},
      {"lead past F4", "\xF5\x80\x80\x80", 1},
      {"FF", "\xFF", 1},
      {"two, then a letter", "\xC3x", 1},
      {"three, then a letter", "\xE2\x82x", 2},
      {"four, then a letter", "\xF0\x9F\x98x", 3},
  };
  for (const Case& c : cases) {
    const Utf8Character decoded = DecodeUtf8(c.text, 0);
    EXPECT_FALSE(decoded.valid || decoded.truncated) << c.name;
    EXPECT_EQ(decoded.length, c.length) << c.name;
    EXPECT_EQ(FindInvalidUtf8("ok" + c.text), 2u) << c.name;
  }
}

TEST(Utf8Test, FindsTheFirstInvalidByte) {
  EXPECT_EQ(FindInvalidUtf8(""), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8(absl::string_view("a\0é€😀", 11)), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("é\xC3"), 2u);
  EXPECT_EQ(FindInvalidUtf8("\xFF\xFF"), 0u);
}

}  // namespace
}  // namespace reprise
