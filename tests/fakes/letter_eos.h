// The byte tokenizer with a letter as the model's end of text.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/text/byte_tokenizer.h"

namespace reprise {

class LetterEos final : public Tokenizer {
 public:
  explicit LetterEos(TokenId eos) : eos_(eos) {}
  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text) const override {
    return bytes_->Encode(text);
  }
  absl::string_view TokenBytes(TokenId id) const override { return bytes_->TokenBytes(id); }
  std::optional<TokenId> SpecialToken(absl::string_view) const override { return std::nullopt; }
  bool IsSpecial(TokenId id) const override { return id == eos_; }
  int32_t vocabulary_size() const override { return bytes_->vocabulary_size(); }
  std::optional<TokenId> bos_id() const override { return std::nullopt; }
  std::optional<TokenId> eos_id() const override { return eos_; }
  bool add_bos() const override { return false; }
  const Digest& digest() const override { return bytes_->digest(); }

 private:
  std::unique_ptr<Tokenizer> bytes_ = CreateByteTokenizer();
  TokenId eos_;
};

}  // namespace reprise
