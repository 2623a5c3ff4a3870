// Tokenizer turns text into token ids and ids back into bytes.
//
// Real: core/text/bpe_tokenizer.h. Second: core/text/byte_tokenizer.h (one id a
// byte, for tests and for models without a vocabulary).
// Threading  immutable after construction; every method is safe from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/digest.h"
#include "core/base/ids.h"

namespace reprise {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids of user text. Text that spells a special token ("<|im_start|>") is
  // ordinary text here and never becomes that token's id. Invalid UTF-8 is
  // kInvalidArgument naming the byte offset.
  virtual absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text) const = 0;

  // The bytes that an id stands for; a special token's literal text. Bytes may
  // be part of a UTF-8 sequence. Empty when the id is out of range.
  virtual absl::string_view TokenBytes(TokenId id) const = 0;

  // The id of a special token by its exact literal, if the vocabulary has it.
  virtual std::optional<TokenId> SpecialToken(absl::string_view literal) const = 0;
  virtual bool IsSpecial(TokenId id) const = 0;

  virtual int32_t vocabulary_size() const = 0;
  virtual std::optional<TokenId> bos_id() const = 0;
  virtual std::optional<TokenId> eos_id() const = 0;

  // True when the model's files ask for BOS in front of plain text prompts.
  virtual bool add_bos() const = 0;

  // Names the vocabulary, merges, pre-tokeniser and special tokens.
  virtual const Digest& digest() const = 0;
};

}  // namespace reprise
