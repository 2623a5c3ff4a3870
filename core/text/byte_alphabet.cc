#include "core/text/byte_alphabet.h"

#include "core/text/utf8.h"

namespace reprise {
namespace {

// Bytes that print as themselves in Latin-1; the others follow from U+0100 on.
bool PrintsAsItself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

std::array<char32_t, 256> LetterCodePoints() {
  std::array<char32_t, 256> letters;
  char32_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    letters[byte] = PrintsAsItself(byte) ? static_cast<char32_t>(byte) : next++;
  }
  return letters;
}

}  // namespace

const std::array<std::string, 256>& ByteLetters() {
  static const auto* const letters = [] {
    auto* made = new std::array<std::string, 256>;
    const auto code_points = LetterCodePoints();
    for (int byte = 0; byte < 256; ++byte) AppendUtf8(code_points[byte], (*made)[byte]);
    return made;
  }();
  return *letters;
}

std::optional<std::string> LettersToBytes(absl::string_view letters) {
  static const auto* const bytes = [] {
    auto* made = new std::array<int, 512>;
    made->fill(-1);
    const auto code_points = LetterCodePoints();
    for (int byte = 0; byte < 256; ++byte) (*made)[code_points[byte]] = byte;
    return made;
  }();
  std::string out;
  for (size_t at = 0; at < letters.size();) {
    const Utf8Character c = DecodeUtf8(letters, at);
    if (!c.valid || c.code_point >= bytes->size() || (*bytes)[c.code_point] < 0) {
      return std::nullopt;
    }
    out.push_back(static_cast<char>((*bytes)[c.code_point]));
    at += c.length;
  }
  return out;
}

}  // namespace reprise
