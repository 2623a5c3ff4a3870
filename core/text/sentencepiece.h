// The alphabet of SentencePiece's BPE: characters, a space written as "▁", and a
// token for each byte ("<0x0A>") of characters that are no tokens.
//
// Source     Kudo and Richardson 2018, arXiv 1808.06226; Hugging Face tokenizers'
//            BPE with byte_fallback.
// Threading  the functions are pure; UserSymbols is immutable once filled.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "core/base/ids.h"

namespace reprise {

inline constexpr absl::string_view kSpaceLetter = "\u2581";

std::string ByteToken(uint8_t byte);  // "<0x0A>"

// The bytes that a token stands for.
std::string SentencePieceBytes(absl::string_view token);

// Literals that text is searched for before anything is merged.
class UserSymbols {
 public:
  struct Match {
    TokenId id;
    size_t length;  // bytes
  };

  void Add(const std::string& literal, TokenId id);  // an empty literal matches nothing

  // The longest one that `text` starts with.
  std::optional<Match> Longest(absl::string_view text) const;

 private:
  absl::flat_hash_map<std::string, TokenId> ids_;
  std::array<std::vector<size_t>, 256> lengths_;  // by first byte, longest first
};

}  // namespace reprise
