// TokenizerSpec: a BPE vocabulary as the model's files give it.
//
// Threading  plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/gguf.h"
#include "core/base/ids.h"

namespace reprise {

// How text is cut into words before merging. Source: llama.cpp's and Hugging
// Face's pre-tokeniser definitions of the same names. kSentencePiece cuts nothing,
// and its alphabet is that of core/text/sentencepiece.h instead of bytes.
enum class PreTokenizer { kGpt2, kSmolLm, kLlama3, kQwen2, kSentencePiece };

struct TokenizerSpec {
  std::vector<std::string> tokens;  // by id; in letters, special tokens literal
  std::vector<std::pair<std::string, std::string>> merges;  // best first
  std::vector<float> scores;     // kSentencePiece of GGUF, by id, in place of merges: highest first
  std::vector<TokenId> special;  // control tokens, never produced by text
  std::vector<TokenId> user_symbols;  // kSentencePiece: found in text before it is merged
  PreTokenizer pre_tokenizer = PreTokenizer::kGpt2;
  bool nfc = false;            // text is normalised to form C first
  bool ignore_merges = false;  // a word that is a token is that token
  bool add_bos = false;
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  std::string chat_template;  // Jinja source, may be empty
};

// kInvalidArgument naming the file and the field.
absl::StatusOr<TokenizerSpec> ReadGgufTokenizer(const GgufFile& file);
absl::StatusOr<TokenizerSpec> ReadTokenizerFolder(const std::string& folder);

}  // namespace reprise
