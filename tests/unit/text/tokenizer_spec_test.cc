#include "core/text/tokenizer_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/text/bpe_tokenizer.h"

namespace reprise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

// Vectors of views into literals live as long as the test.
GgufFile GoodGguf() {
  GgufFile file;
  file.metadata["tokenizer.ggml.model"] = absl::string_view("gpt2");
  file.metadata["tokenizer.ggml.pre"] = absl::string_view("smollm");
  file.metadata["tokenizer.ggml.tokens"] = std::vector<absl::string_view>{"<s>", "a", "b", "ab"};
  file.metadata["tokenizer.ggml.token_type"] = std::vector<int64_t>{3, 1, 1, 1};
  file.metadata["tokenizer.ggml.merges"] = std::vector<absl::string_view>{"a b"};
  file.metadata["tokenizer.ggml.eos_token_id"] = int64_t{0};
  return file;
}

TEST(GgufTokenizerTest, ReadsTheFields) {
  const auto spec = ReadGgufTokenizer(GoodGguf());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->tokens, ElementsAre("<s>", "a", "b", "ab"));
  EXPECT_THAT(spec->merges, ElementsAre(Pair("a", "b")));
  EXPECT_THAT(spec->special, ElementsAre(0));
  EXPECT_EQ(spec->pre_tokenizer, PreTokenizer::kSmolLm);
  EXPECT_EQ(spec->eos, 0);
  EXPECT_EQ(spec->bos, std::nullopt);
  EXPECT_FALSE(spec->nfc || spec->ignore_merges || spec->add_bos);
}

TEST(GgufTokenizerTest, RefusesAMissingFieldAndNamesIt) {
  for (const char* key :
       {"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    GgufFile file = GoodGguf();
    file.metadata.erase(key);
    const absl::Status status = ReadGgufTokenizer(file).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(key));
  }
}

TEST(GgufTokenizerTest, RefusesABadFieldAndNamesIt) {
  using Views = std::vector<absl::string_view>;
  struct Case {
    const char* key;
    GgufValue value;
    const char* problem;
  };
  const Case cases[] = {
      {"tokenizer.ggml.model", absl::string_view("bert"), "tokenizer.ggml.model is \"bert\""},
      {"tokenizer.ggml.model", int64_t{1}, "tokenizer.ggml.model"},
      {"tokenizer.ggml.pre", absl::string_view("tekken"), "tokenizer.ggml.pre is \"tekken\""},
      {"tokenizer.ggml.tokens", Views{}, "vocabulary of 0"},
      {"tokenizer.ggml.tokens", absl::string_view("a"), "tokenizer.ggml.tokens"},
      {"tokenizer.ggml.token_type", std::vector<int64_t>{3}, "tokenizer.ggml.token_type has 1"},
      {"tokenizer.ggml.token_type", Views{"3"}, "tokenizer.ggml.token_type"},
      {"tokenizer.ggml.merges", Views{"a b", "ab"}, "merge 1 \"ab\""},
      {"tokenizer.ggml.merges", Views{" b"}, "merge 0"},
      {"tokenizer.ggml.merges", Views{"a "}, "merge 0"},
      {"tokenizer.ggml.eos_token_id", int64_t{-1}, "tokenizer.ggml.eos_token_id is -1"},
      {"tokenizer.ggml.bos_token_id", int64_t{1} << 40, "tokenizer.ggml.bos_token_id is 1099"},
      {"tokenizer.ggml.bos_token_id", absl::string_view("0"), "tokenizer.ggml.bos_token_id"},
      {"tokenizer.ggml.add_bos_token", int64_t{1}, "tokenizer.ggml.add_bos_token"},
      {"tokenizer.chat_template", int64_t{1}, "tokenizer.chat_template"},
  };
  for (const Case& c : cases) {
    GgufFile file = GoodGguf();
    file.metadata[c.key] = c.value;
    const absl::Status status = ReadGgufTokenizer(file).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.problem;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.problem));
  }
}

GgufFile GoodSentencePieceGguf() {
  GgufFile file;
  file.metadata["tokenizer.ggml.model"] = absl::string_view("llama");
  file.metadata["tokenizer.ggml.tokens"] =
      std::vector<absl::string_view>{"<unk>", "<e>", "a", "b", "ab"};
  file.metadata["tokenizer.ggml.scores"] = std::vector<double>{0, 0, -1, -2, -3};
  file.metadata["tokenizer.ggml.token_type"] = std::vector<int64_t>{2, 3, 1, 1, 4};
  file.metadata["tokenizer.ggml.add_space_prefix"] = false;
  return file;
}

TEST(GgufTokenizerTest, ReadsScoresAndUserSymbolsOfSentencePiece) {
  const auto spec = ReadGgufTokenizer(GoodSentencePieceGguf());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->pre_tokenizer, PreTokenizer::kSentencePiece);
  EXPECT_THAT(spec->scores, ElementsAre(0, 0, -1, -2, -3));
  EXPECT_THAT(spec->special, ElementsAre(0, 1));
  EXPECT_THAT(spec->user_symbols, ElementsAre(4));
  EXPECT_TRUE(spec->merges.empty());
}

TEST(GgufTokenizerTest, RefusesABadSentencePieceFieldAndNamesIt) {
  static const std::string kLong(1025, 'a');
  const std::pair<std::pair<const char*, GgufValue>, const char*> cases[] = {
      {{"tokenizer.ggml.add_space_prefix", true}, "tokenizer.ggml.add_space_prefix is true"},
      {{"tokenizer.ggml.scores", std::vector<double>{0}}, "tokenizer.ggml.scores has 1"},
      {{"tokenizer.ggml.scores", std::vector<double>{0, 0, 0, 0, NAN}},
       "tokenizer.ggml.scores holds nan"},
      {{"tokenizer.ggml.tokens", std::vector<absl::string_view>{"a", "b", kLong, "c", "d"}},
       "token 2 has 1025 bytes, the limit is 1024"},
  };
  for (const auto& [change, problem] : cases) {
    GgufFile file = GoodSentencePieceGguf();
    file.metadata[change.first] = change.second;
    const absl::Status status = ReadGgufTokenizer(file).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << problem;
    EXPECT_THAT(std::string(status.message()), HasSubstr(problem));
  }
  for (const char* key : {"tokenizer.ggml.scores", "tokenizer.ggml.add_space_prefix"}) {
    GgufFile file = GoodSentencePieceGguf();
    file.metadata.erase(key);
    EXPECT_THAT(std::string(ReadGgufTokenizer(file).status().message()), HasSubstr(key));
  }
}

constexpr char kGoodJson[] = R"({
  "normalizer": {"type": "NFC"},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]},
  "added_tokens": [{"id": 4, "content": "<e>"}],
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3}, "merges": ["a b"]}
})";

class TokenizerFolderTest : public ::testing::Test {
 protected:
  TokenizerFolderTest() : folder_(::testing::TempDir() + "/spec-" + std::to_string(getpid())) {
    std::filesystem::create_directory(folder_);
  }
  ~TokenizerFolderTest() override { std::filesystem::remove_all(folder_); }

  absl::StatusOr<TokenizerSpec> Read(const std::string& tokenizer, const std::string& config = "") {
    std::ofstream(folder_ + "/tokenizer.json") << tokenizer;
    if (!config.empty()) std::ofstream(folder_ + "/tokenizer_config.json") << config;
    return ReadTokenizerFolder(folder_);
  }

  const std::string folder_;
};

TEST_F(TokenizerFolderTest, ReadsBothFiles) {
  const auto spec = Read(kGoodJson, R"({"eos_token": {"content": "<e>"}, "bos_token": "a",
                                        "add_bos_token": true, "chat_template": "{{ x }}"})");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->tokens, ElementsAre("a", "b", "c", "ab", "<e>"));
  EXPECT_THAT(spec->merges, ElementsAre(Pair("a", "b")));
  EXPECT_THAT(spec->special, ElementsAre(4));
  EXPECT_EQ(spec->pre_tokenizer, PreTokenizer::kSmolLm);
  EXPECT_EQ(spec->eos, 4);
  EXPECT_EQ(spec->bos, 0);
  EXPECT_TRUE(spec->nfc && spec->add_bos);
  EXPECT_EQ(spec->chat_template, "{{ x }}");
}

TEST_F(TokenizerFolderTest, ReadsMergesAsPairsToo) {
  const auto spec = Read(absl::StrReplaceAll(kGoodJson, {{R"(["a b"])", R"([["a", "b"]])"}}));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->merges, ElementsAre(Pair("a", "b")));
}

TEST_F(TokenizerFolderTest, RefusesABadTokenizerJsonAndNamesTheField) {
  struct Case {
    const char* from;
    const char* to;
    const char* problem;
  };
  const Case cases[] = {
      {"{\n", "\n", "malformed JSON"},
      {"\"NFC\"", "\"Lowercase\"", "normalizer.type is \"Lowercase\""},
      {"\"NFC\"", "7", "normalizer.type"},
      {"\"pre_tokenizer\"", "\"other\"", "pre_tokenizer: missing"},
      {"\"Digits\"", "\"Whitespace\"", "pre_tokenizer of type"},
      {"\"model\"", "\"modal\"", "model: missing"},
      {"\"BPE\"", "\"WordPiece\"", "model.type is \"WordPiece\""},
      {"\"vocab\"", "\"words\"", "model.vocab: missing"},
      {"{\"a\": 0", "{\"a\": \"0\"", "model.vocab.a: expected an integer"},
      {"{\"a\": 0", "{\"a\": -1", "model.vocab.a: id -1 is not in [0, 4194304)"},
      {"{\"a\": 0", "{\"a\": 4194304", "model.vocab.a: id 4194304"},
      {"{\"a\": 0", "{\"a\": 1", "id 1 is also that of \"a\""},
      {"\"b\": 1", "\"a\": 1", "model.vocab.a: key given twice"},
      {"\"merges\"", "\"joins\"", "model.merges: missing"},
      {"[\"a b\"]", "\"a b\"", "model.merges: expected an array"},
      {"[\"a b\"]", "[\"a b\", 7]", "model.merges[1]: expected a string"},
      {"[\"a b\"]", "[\"a b\", \"ab\"]", "merge 1 \"ab\" is no pair"},
      {"[\"a b\"]", "[[\"a\"]]", "model.merges[0]: 1 elements"},
      {"[\"a b\"]", "[[\"a\", \"b\", \"c\"]]", "model.merges[0]: 3 elements"},
      {"[\"a b\"]", "[[\"a\", 7]]", "model.merges[0][1]: expected a string"},
      {"[{\"id\": 4", "[7, {\"id\": 4", "added_tokens[0]: expected an object"},
      {"\"id\": 4", "\"no\": 4", "added_tokens[0].id: missing"},
      {"\"id\": 4", "\"id\": -4", "added_tokens[0]: id -4"},
      {"\"id\": 4", "\"id\": 0", "added_tokens[0]: id 0 is also that of \"a\""},
      {"\"content\": \"<e>\"", "\"content\": null", "added_tokens[0].content: expected a string"},
      {"[{\"id\": 4, \"content\": \"<e>\"}]", "\"<e>\"", "added_tokens: expected an array"},
  };
  for (const Case& c : cases) {
    const std::string json = absl::StrReplaceAll(kGoodJson, {{c.from, c.to}});
    ASSERT_NE(json, kGoodJson) << c.from;
    const absl::Status status = Read(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.problem;
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.problem));
  }
}

constexpr char kSentencePieceJson[] = R"({
  "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
  "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"},
  "added_tokens": [{"id": 4, "content": "<e>", "special": true}, {"id": 3, "content": "ab", "special": false}],
  "model": {"type": "BPE", "byte_fallback": true, "vocab": {"a": 0, "b": 1, "\u2581": 2, "ab": 3}, "merges": ["a b"]}
})";

TEST_F(TokenizerFolderTest, TellsUserSymbolsOfSentencePieceFromControlTokens) {
  const auto spec = Read(kSentencePieceJson);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->pre_tokenizer, PreTokenizer::kSentencePiece);
  EXPECT_THAT(spec->special, ElementsAre(4));
  EXPECT_THAT(spec->user_symbols, ElementsAre(3));
  const absl::Status incomplete = CreateBpeTokenizer(*spec).status();
  EXPECT_THAT(std::string(incomplete.message()), HasSubstr("no token <0x00>"));
}

TEST_F(TokenizerFolderTest, RefusesByteFallbackOfAnotherFamily) {
  const std::pair<std::pair<const char*, const char*>, const char*> cases[] = {
      {{R"("type": "Replace")", R"("type": "Prepend")"}, "normalizer of type \"Prepend\""},
      {{R"("content": "\u2581")", R"("content": "_")"}, "normalizer of type"},
      {{R"("normalizer")", R"("other")"}, "normalizer"},
      {{R"("type": "Split")", R"("type": "Digits")"}, "pre_tokenizer of type \"Digits\""},
  };
  for (const auto& [change, problem] : cases) {
    const absl::Status status = Read(absl::StrReplaceAll(kSentencePieceJson, {change})).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << problem;
    EXPECT_THAT(std::string(status.message()), HasSubstr(problem));
  }
}

TEST_F(TokenizerFolderTest, RefusesABadTokenizerConfigAndNamesTheField) {
  const std::pair<const char*, const char*> cases[] = {
      {"{\"eos_token\": \"</s>\"}", "eos_token \"</s>\" is not in the vocabulary"},
      {"{\"bos_token\": {\"content\": \"x\"}}", "bos_token \"x\" is not in the vocabulary"},
      {"{\"bos_token\": {\"content\": 1}}", "bos_token.content"},
      {"{\"add_bos_token\": \"yes\"}", "add_bos_token"},
      {"{", "malformed JSON"},
  };
  for (const auto& [config, problem] : cases) {
    const absl::Status status = Read(kGoodJson, config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << problem;
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer_config.json: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(problem));
  }
}

TEST_F(TokenizerFolderTest, AFolderWithoutTokenizerIsNotFound) {
  EXPECT_EQ(ReadTokenizerFolder(folder_).status().code(), absl::StatusCode::kNotFound);
}

TEST(BpeTokenizerTest, RefusesASpecThatDoesNotFitItsVocabulary) {
  const auto base = [] { return *ReadGgufTokenizer(GoodGguf()); };
  TokenizerSpec merge = base(), special = base(), bos = base(), negative = base(), symbol = base();
  merge.merges.push_back({"b", "a"});
  special.special.push_back(4);
  bos.bos = 4;
  negative.eos = -1;
  symbol.user_symbols = {4};
  const std::pair<TokenizerSpec, const char*> cases[] = {
      {merge, "merge 1 (\"b\" + \"a\")"},
      {special, "special token id 4 is not in [0, 4)"},
      {bos, "bos id 4"},
      {negative, "eos id -1"},
      {symbol, "user symbol id 4"},
  };
  for (const auto& [spec, problem] : cases) {
    const auto tokenizer = CreateBpeTokenizer(spec);
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << problem;
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(problem));
  }
  EXPECT_TRUE(CreateBpeTokenizer(base()).ok());
}

TEST(BpeTokenizerTest, DigestChangesWithEveryFieldThatChangesIds) {
  const auto base = [] { return *ReadGgufTokenizer(GoodGguf()); };
  std::vector<TokenizerSpec> specs(11, base());
  specs[1].tokens[1] = "c";
  specs[1].merges.clear();
  specs[2].merges.clear();
  specs[3].special.clear();
  specs[4].pre_tokenizer = PreTokenizer::kGpt2;
  specs[5].nfc = true;
  specs[6].ignore_merges = true;
  specs[7].add_bos = true;
  specs[8].eos = 1;
  specs[9].user_symbols = {1};
  specs[10].scores = {0, 0, 0, 0};
  std::vector<std::string> digests;
  for (const TokenizerSpec& spec : specs) {
    digests.push_back(ToHex((*CreateBpeTokenizer(spec))->digest()));
  }
  std::sort(digests.begin(), digests.end());
  EXPECT_EQ(std::unique(digests.begin(), digests.end()), digests.end());
}

}  // namespace
}  // namespace reprise
