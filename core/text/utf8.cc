#include "core/text/utf8.h"

#include <cstdint>

namespace reprise {
namespace {

// What a lead byte announces: length and the range of the second byte.
struct Lead {
  size_t length = 0;  // 0: no lead byte
  uint8_t low = 0x80, high = 0xBF;
  char32_t bits = 0;
};

Lead DecodeLead(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0, byte};
  if (byte >= 0xC2 && byte <= 0xDF) return {2, 0x80, 0xBF, byte & 0x1Fu};
  if (byte == 0xE0) return {3, 0xA0, 0xBF, 0};
  if (byte == 0xED) return {3, 0x80, 0x9F, byte & 0x0Fu};
  if (byte >= 0xE1 && byte <= 0xEF) return {3, 0x80, 0xBF, byte & 0x0Fu};
  if (byte == 0xF0) return {4, 0x90, 0xBF, 0};
  if (byte == 0xF4) return {4, 0x80, 0x8F, 4};
  if (byte >= 0xF1 && byte <= 0xF3) return {4, 0x80, 0xBF, byte & 0x07u};
  return {};
}

}  // namespace

Utf8Character DecodeUtf8(absl::string_view text, size_t at) {
  const Lead lead = DecodeLead(static_cast<uint8_t>(text[at]));
  Utf8Character result;
  if (lead.length == 0) return result;
  result.code_point = lead.bits;
  for (size_t i = 1; i < lead.length; ++i) {
    result.length = i;
    if (at + i >= text.size()) {
      result.truncated = true;
      return result;
    }
    const uint8_t byte = static_cast<uint8_t>(text[at + i]);
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) return result;
    result.code_point = (result.code_point << 6) | (byte & 0x3Fu);
  }
  result.length = lead.length;
  result.valid = true;
  return result;
}

void AppendUtf8(char32_t c, std::string& out) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
    return;
  }
  const int extra = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr uint8_t kLeads[] = {0, 0xC0, 0xE0, 0xF0};
  out.push_back(static_cast<char>(kLeads[extra] | (c >> (6 * extra))));
  for (int i = extra - 1; i >= 0; --i) {
    out.push_back(static_cast<char>(0x80 | ((c >> (6 * i)) & 0x3F)));
  }
}

std::optional<size_t> FindInvalidUtf8(absl::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Character c = DecodeUtf8(text, at);
    if (!c.valid) return at;
    at += c.length;
  }
  return std::nullopt;
}

}  // namespace reprise
