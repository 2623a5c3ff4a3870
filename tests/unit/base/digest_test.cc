#include "core/base/digest.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "absl/strings/ascii.h"

namespace reprise {
namespace {

TEST(DigestTest, ToHexIsLowerCaseInByteOrder) {
  Digest digest{};
  digest[0] = 0xAB;
  digest[31] = 0x01;
  EXPECT_EQ(ToHex(digest), "ab" + std::string(60, '0') + "01");
}

// FIPS 180-4's example: SHA-256 of no bytes.
TEST(DigestTest, NoFieldsIsTheSha256OfNothing) {
  EXPECT_EQ(ToHex(DigestBuilder().Finish()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

// printf '\1\0\0\0\0\0\0\0t\3\0\0\0\0\0\0\0abc' | sha256sum
TEST(DigestTest, AFieldIsHashedAsLengthTagLengthValue) {
  EXPECT_EQ(ToHex(DigestBuilder().Add("t", "abc").Finish()),
            "698a3842e84b13fce0a5d17400be9053057d374649c22ff396882a3cee47e71c");
}

TEST(DigestTest, AFieldInPiecesIsThatFieldAtOnce) {
  const Digest pieces =
      DigestBuilder().Begin("t", 3).Continue(AsBytes("a")).Continue(AsBytes("bc")).Finish();
  EXPECT_EQ(pieces, DigestBuilder().Add("t", "abc").Finish());
}

TEST(DigestTest, NoTwoFieldListsCollide) {
  using Fill = std::function<void(DigestBuilder&)>;
  const TokenId ids[] = {1, 2};
  const TokenId first[] = {1}, second[] = {2};
  const std::pair<const char*, Fill> lists[] = {
      {"none", [](DigestBuilder&) {}},
      {"empty tag and value", [](DigestBuilder& b) { b.Add("", ""); }},
      {"two empty", [](DigestBuilder& b) { b.Add("", "").Add("", ""); }},
      {"a|b", [](DigestBuilder& b) { b.Add("a", "b"); }},
      {"ab|", [](DigestBuilder& b) { b.Add("ab", ""); }},
      {"|ab", [](DigestBuilder& b) { b.Add("", "ab"); }},
      {"b|a", [](DigestBuilder& b) { b.Add("b", "a"); }},
      {"a|b c|d", [](DigestBuilder& b) { b.Add("a", "b").Add("c", "d"); }},
      {"c|d a|b", [](DigestBuilder& b) { b.Add("c", "d").Add("a", "b"); }},
      {"a|bcd", [](DigestBuilder& b) { b.Add("a", "bcd"); }},
      {"value that spells the next field",
       [](DigestBuilder& b) {
         b.Add("a", std::string("b\1\0\0\0\0\0\0\0c\1\0\0\0\0\0\0\0d", 19));
       }},
      {"ids in one", [&](DigestBuilder& b) { b.Add("ids", absl::MakeConstSpan(ids)); }},
      {"ids in two",
       [&](DigestBuilder& b) {
         b.Add("ids", absl::MakeConstSpan(first)).Add("ids", absl::MakeConstSpan(second));
       }},
      {"int 1", [](DigestBuilder& b) { b.AddInt("n", 1); }},
      {"int -1", [](DigestBuilder& b) { b.AddInt("n", -1); }},
      {"int 1 as text", [](DigestBuilder& b) { b.Add("n", "1"); }},
      {"digest", [](DigestBuilder& b) { b.Add("n", Digest{}); }},
  };
  std::map<Digest, const char*> seen;
  for (const auto& [name, fill] : lists) {
    DigestBuilder builder;
    fill(builder);
    const auto [other, fresh] = seen.emplace(builder.Finish(), name);
    EXPECT_TRUE(fresh) << name << " collides with " << other->second;
  }
}

TEST(DigestTest, EqualFieldListsGiveEqualDigests) {
  const auto make = [] { return DigestBuilder().Add("a", "b").AddInt("n", 7).Finish(); };
  EXPECT_EQ(make(), make());
}

// Of "abc": FIPS 180-4, example B.1.
TEST(DigestTest, Sha256IsThatOfTheBytesAloneAndReadsBackFromHex) {
  const std::string abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  const Digest digest = Sha256(AsBytes("abc"));
  EXPECT_EQ(ToHex(digest), abc);
  EXPECT_EQ(FromHex(abc), digest);
  EXPECT_EQ(FromHex(absl::AsciiStrToUpper(abc)), digest);
  for (const std::string& bad : {std::string(), abc + "0", abc.substr(1), "x" + abc.substr(1)}) {
    EXPECT_EQ(FromHex(bad), std::nullopt) << bad;
  }
  Digest other = digest;
  EXPECT_TRUE(EqualInConstantTime(digest, other));
  other.back() ^= 1;
  EXPECT_FALSE(EqualInConstantTime(digest, other));
}

// XXH3-128 of nothing, from the reference implementation (xxhsum -H2 /dev/null).
TEST(ChecksumTest, IsXxh3OfTheViewsReadInOrder) {
  EXPECT_EQ(Xxh3Checksum({}), (Checksum128{0x6001c324468d497f, 0x99aa06d3014798d8}));
  const std::string text = "the views are joined";
  const Checksum128 whole = Xxh3Checksum({AsBytes(text)});
  for (size_t at = 0; at <= text.size(); ++at) {
    EXPECT_EQ(Xxh3Checksum({AsBytes(text.substr(0, at)), AsBytes(text.substr(at))}), whole);
  }
  EXPECT_FALSE(Xxh3Checksum({AsBytes("views")}) == Xxh3Checksum({AsBytes("viewt")}));
}

}  // namespace
}  // namespace reprise
