#include "core/text/incremental_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "core/text/bpe_tokenizer.h"
#include "core/text/byte_alphabet.h"
#include "core/text/byte_tokenizer.h"
#include "core/text/utf8.h"

namespace reprise {
namespace {

using ::testing::ElementsAre;

const Tokenizer& Bytes() {
  static const Tokenizer* const tokenizer = CreateByteTokenizer().release();
  return *tokenizer;
}

// What each byte of `text` releases, then what Finish does.
std::vector<std::string> Stream(const std::string& text) {
  IncrementalDetokenizer stream(&Bytes());
  std::vector<std::string> chunks;
  for (const char byte : text) chunks.push_back(stream.Push(static_cast<uint8_t>(byte)));
  chunks.push_back(stream.Finish());
  return chunks;
}

std::string Join(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += part;
  return all;
}

TEST(IncrementalDetokenizerTest, HoldsBytesUntilTheyAreACharacter) {
  EXPECT_THAT(Stream("aé"), ElementsAre("a", "", "é", ""));
  EXPECT_THAT(Stream("😀!"), ElementsAre("", "", "", "😀", "!", ""));
  EXPECT_THAT(Stream("👩‍👩"),
              ElementsAre("", "", "", "👩", "", "", "\u200D", "", "", "", "👩", ""));
}

TEST(IncrementalDetokenizerTest, ReplacesWhatCanNeverBeACharacter) {
  EXPECT_THAT(Stream("a\xFFz"), ElementsAre("a", "\uFFFD", "z", ""));
  EXPECT_THAT(Stream("\xC3x"), ElementsAre("", "\uFFFDx", ""));
  EXPECT_THAT(Stream("\xF0\x9F\x98x"), ElementsAre("", "", "", "\uFFFDx", ""));
  EXPECT_THAT(Stream("\xED\xA0\x80"), ElementsAre("", "\uFFFD\uFFFD", "\uFFFD", ""));
  EXPECT_THAT(Stream("\xF0\x9F"), ElementsAre("", "", "\uFFFD"));
  EXPECT_THAT(Stream(""), ElementsAre(""));
}

TEST(IncrementalDetokenizerTest, SpecialTokensGiveNoText) {
  IncrementalDetokenizer stream(&Bytes());
  EXPECT_EQ(stream.Push('a'), "a");
  EXPECT_EQ(stream.Push(*Bytes().eos_id()), "");
  EXPECT_EQ(stream.Push(-1), "");
  EXPECT_EQ(stream.Push(1 << 30), "");
  EXPECT_EQ(stream.Finish(), "");
}

// A vocabulary of 1000 tokens of 1 to 7 random bytes, cut without regard to
// characters.
std::unique_ptr<Tokenizer> RandomPieces(std::mt19937& random, const std::string& source) {
  TokenizerSpec spec;
  for (int i = 0; i < 1000; ++i) {
    const std::string piece = source.substr(random() % (source.size() - 7), 1 + random() % 7);
    std::string letters;
    for (const char byte : piece) letters += ByteLetters()[static_cast<uint8_t>(byte)];
    spec.tokens.push_back(letters);
  }
  return *CreateBpeTokenizer(spec);
}

TEST(IncrementalDetokenizerTest, ChunksAreWholeCharactersAndJoinToTheWhole) {
  std::mt19937 random(7);
  const std::string source =
      "plain ascii, naïve café, Ελληνικά, 漢字かな, 😀👩‍👩‍👧🇩🇪, "
      "\xFF\xC3\x28\xED\xA0\x80 "
      "end";
  for (int round = 0; round < 50; ++round) {
    const auto tokenizer = RandomPieces(random, source);
    IncrementalDetokenizer stream(tokenizer.get());
    std::string bytes, chunks;
    for (int i = 0; i < 40; ++i) {
      const auto id = static_cast<TokenId>(random() % 1000);
      bytes += std::string(tokenizer->TokenBytes(id));
      const std::string chunk = stream.Push(id);
      ASSERT_EQ(FindInvalidUtf8(chunk), std::nullopt);
      chunks += chunk;
    }
    chunks += stream.Finish();
    EXPECT_EQ(chunks, Join(Stream(bytes))) << "one byte at a time gives the same text";
  }
}

struct Streamed {
  std::string text;
  std::string stop;
  bool operator==(const Streamed&) const = default;
};

Streamed RunMatcher(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  Streamed result;
  for (const std::string& piece : pieces) {
    const StopMatcher::Output output = matcher.Push(piece);
    result.text += output.text;
    if (output.stop) {
      EXPECT_TRUE(result.stop.empty()) << "a match is reported once";
      result.stop = *output.stop;
    }
  }
  result.text += matcher.Finish();
  return result;
}

TEST(StopMatcherTest, CutsTheTextAtTheStop) {
  struct Case {
    std::vector<std::string> stops, pieces;
    Streamed expected;
  };
  const Case cases[] = {
      {{}, {"any", "thing"}, {"anything", ""}},
      {{""}, {"anything"}, {"anything", ""}},
      {{"STOP"}, {"abSTOPcd"}, {"ab", "STOP"}},
      {{"STOP"}, {"STOP"}, {"", "STOP"}},
      {{"STOP"}, {"ab", "ST", "OP", "cd", "STOP"}, {"ab", "STOP"}},
      {{"STOP"}, {"abSTO"}, {"abSTO", ""}},
      {{"STOP"}, {"abSTO", "RE"}, {"abSTORE", ""}},
      {{"STOP"}, {"STSTOP"}, {"ST", "STOP"}},
      {{"aab"}, {"a", "a", "a", "b"}, {"a", "aab"}},
      {{"\n\n"}, {"x\n", "\ny"}, {"x", "\n\n"}},
      {{"b", "abc"}, {"abc"}, {"a", "b"}},
      {{"abc", "b"}, {"a", "b", "c"}, {"a", "b"}},
      {{"b", "ab"}, {"xab"}, {"x", "ab"}},
      {{"ab", "b"}, {"xa", "b"}, {"x", "ab"}},
      {{"abcd", "c"}, {"zabcd"}, {"zab", "c"}},
      {{"later", "first"}, {"a first and later"}, {"a ", "first"}},
      {{"é"}, {"caf", "é!"}, {"caf", "é"}},
      {{"😀"}, {"😁😀"}, {"😁", "😀"}},
  };
  for (const Case& c : cases) {
    const Streamed result = RunMatcher(c.stops, c.pieces);
    EXPECT_EQ(result.text, c.expected.text) << ::testing::PrintToString(c.pieces);
    EXPECT_EQ(result.stop, c.expected.stop) << ::testing::PrintToString(c.pieces);
  }
}

TEST(StopMatcherTest, HoldsOnlyWhatCouldBeginAStop) {
  StopMatcher matcher({"</s>", "\nUser:"});
  EXPECT_EQ(matcher.Push("Hello <").text, "Hello ");
  EXPECT_EQ(matcher.Push("b").text, "<b");
  EXPECT_EQ(matcher.Push(">\nUse").text, ">");
  EXPECT_EQ(matcher.Push("ful").text, "\nUseful");
  EXPECT_EQ(matcher.Push("</").text, "");
  EXPECT_EQ(matcher.Finish(), "</");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, SaysNothingAfterAMatch) {
  StopMatcher matcher({"."});
  EXPECT_EQ(matcher.Push("a.b").stop, ".");
  const StopMatcher::Output output = matcher.Push("c.");
  EXPECT_EQ(output.text, "");
  EXPECT_FALSE(output.stop.has_value());
  EXPECT_EQ(matcher.Finish(), "");
}

// The stop that ends first in `text`, the longer of two, found the slow way.
Streamed Expected(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& stop : stops) {
      const bool ends =
          stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (ends && stop.size() > best.size()) best = stop;
    }
    if (!best.empty()) return {text.substr(0, end - best.size()), best};
  }
  return {text, ""};
}

TEST(StopMatcherTest, HowTextIsCutMakesNoDifference) {
  std::mt19937 random(11);
  const auto word = [&](size_t longest) {
    std::string text;
    for (size_t n = 1 + random() % longest; n > 0; --n) text += "abc"[random() % 3];
    return text;
  };
  int matches = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (size_t n = 1 + random() % 3; n > 0; --n) stops.push_back(word(5));
    const std::string text = word(20);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      pieces.push_back(text.substr(at, 1 + random() % 4));
      at += pieces.back().size();
    }
    const Streamed expected = Expected(stops, text);
    EXPECT_EQ(RunMatcher(stops, pieces), expected)
        << ::testing::PrintToString(stops) << ::testing::PrintToString(pieces);
    if (!expected.stop.empty()) ++matches;
  }
  EXPECT_GT(matches, 1000);
  EXPECT_LT(matches, 2900) << "texts without a match are tested too";
}

}  // namespace
}  // namespace reprise
