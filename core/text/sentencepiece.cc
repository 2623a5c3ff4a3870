#include "core/text/sentencepiece.h"

#include <algorithm>
#include <functional>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace reprise {

std::string ByteToken(uint8_t byte) { return absl::StrFormat("<0x%02X>", byte); }

std::string SentencePieceBytes(absl::string_view token) {
  constexpr size_t kByteTokenSize = 6;
  if (token.size() == kByteTokenSize && token.substr(0, 3) == "<0x") {
    for (int byte = 0; byte < 256; ++byte) {
      if (ByteToken(static_cast<uint8_t>(byte)) == token) {
        return std::string(1, static_cast<char>(byte));
      }
    }
  }
  return absl::StrReplaceAll(token, {{kSpaceLetter, " "}});
}

void UserSymbols::Add(const std::string& literal, TokenId id) {
  if (literal.empty() || !ids_.emplace(literal, id).second) return;
  std::vector<size_t>& lengths = lengths_[static_cast<uint8_t>(literal[0])];
  const auto at =
      std::lower_bound(lengths.begin(), lengths.end(), literal.size(), std::greater<>());
  if (at == lengths.end() || *at != literal.size()) lengths.insert(at, literal.size());
}

std::optional<UserSymbols::Match> UserSymbols::Longest(absl::string_view text) const {
  if (text.empty()) return std::nullopt;
  for (const size_t length : lengths_[static_cast<uint8_t>(text[0])]) {
    if (length > text.size()) continue;
    const auto found = ids_.find(text.substr(0, length));
    if (found != ids_.end()) return Match{found->second, length};
  }
  return std::nullopt;
}

}  // namespace reprise
