// Embeddings of all-MiniLM-L6-v2 against sentence-transformers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/base/json.h"
#include "core/model/sentence_encoder.h"
#include "core/text/wordpiece_tokenizer.h"
#include "tests/golden/golden_file.h"

namespace reprise {
namespace {

TEST(SentenceEncoderOracleTest, CosineAgreesTo1e4) {
  const std::string folder = "models/all-minilm-l6-v2";
  const auto encoder = LoadSentenceEncoder(folder, 2);
  ASSERT_TRUE(encoder.ok()) << encoder.status() << "; docker/setup/link-models.sh links it";
  const auto tokenizer = WordPieceTokenizer::Load(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto sentences = JsonValue::Parse(ReadGoldenText("embedding/sentences.json"));
  ASSERT_TRUE(sentences.ok()) << sentences.status();
  const auto expected = ReadGolden<float>("embedding/embeddings.bin");
  ASSERT_EQ(expected.size(), sentences->size() * encoder->dimensions);
  double worst = 1;
  for (size_t i = 0; i < sentences->size(); ++i) {
    const auto vector =
        encoder->encode((*tokenizer)->Encode(*sentences->At(i)->AsString(), encoder->max_tokens));
    ASSERT_TRUE(vector.ok()) << vector.status();
    double dot = 0, norm = 0;
    for (int d = 0; d < encoder->dimensions; ++d) {
      dot += (*vector)[d] * expected[i * encoder->dimensions + d];
      norm += (*vector)[d] * (*vector)[d];
    }
    EXPECT_NEAR(norm, 1, 1e-5) << i;
    EXPECT_GE(dot, 1 - 1e-4) << i;
    worst = std::min(worst, dot);
  }
  std::printf("oracle sentence_encoder sentences=%zu worst_cosine=%.7f\n", sentences->size(),
              worst);
}

TEST(SentenceEncoderOracleTest, BatchOfTextsOfAnyLengthGivesWhatEachGivesAlone) {
  const auto encoder = LoadSentenceEncoder("models/all-minilm-l6-v2", 2);
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  std::vector<std::vector<int32_t>> texts;
  for (const int length : {1, 2, 30, 7, encoder->max_tokens}) {
    std::vector<int32_t>& text = texts.emplace_back(length, 101);
    for (int i = 1; i < length; ++i) text[i] = 1000 + (i * 37) % 9000;
  }
  const auto together = encoder->encode_batch(texts);
  ASSERT_TRUE(together.ok()) << together.status();
  ASSERT_EQ(together->size(), texts.size());
  for (size_t t = 0; t < texts.size(); ++t) {
    const auto alone = encoder->encode(texts[t]);
    ASSERT_TRUE(alone.ok());
    double dot = 0;
    for (int d = 0; d < encoder->dimensions; ++d) dot += (*alone)[d] * (*together)[t][d];
    EXPECT_NEAR(dot, 1, 1e-5) << texts[t].size() << " WordPieces";
  }
  texts.emplace_back();
  EXPECT_TRUE(absl::IsInvalidArgument(encoder->encode_batch(texts).status()));
  EXPECT_TRUE(encoder->encode_batch({})->empty());
}

}  // namespace
}  // namespace reprise
