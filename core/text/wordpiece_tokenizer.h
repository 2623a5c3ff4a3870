// WordPieceTokenizer: the uncased BERT tokenizer of sentence encoders.
//
// Source     Devlin et al. 2018, arXiv 1810.04805; normalisation and word
//            boundaries as Hugging Face tokenizers' BertNormalizer and
//            BertPreTokenizer.
// Threading  immutable; safe from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace reprise {

class WordPieceTokenizer {
 public:
  // Reads tokenizer.json. kInvalidArgument: another kind of tokenizer.
  static absl::StatusOr<std::unique_ptr<WordPieceTokenizer>> Load(const std::string& folder);

  // [CLS], at most max_tokens - 2 pieces, [SEP]. Invalid UTF-8 becomes U+FFFD.
  std::vector<int32_t> Encode(absl::string_view text, size_t max_tokens) const;

 private:
  WordPieceTokenizer() = default;
  void AddWord(const std::string& word, std::vector<int32_t>& ids) const;

  absl::flat_hash_map<std::string, int32_t> vocabulary_;
  int32_t unknown_ = 0, cls_ = 0, sep_ = 0;
};

}  // namespace reprise
