// UTF-8, strict: no surrogates, no overlong forms, nothing past U+10FFFF.
// Pure functions. Source: Unicode 15, table 3-7.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace reprise {

struct Utf8Character {
  char32_t code_point = 0;
  size_t length = 1;  // bytes; of an invalid one, those that can be skipped
  bool valid = false;
  bool truncated = false;  // invalid only because the text ends here
};

// The character at `at`, which is < text.size().
Utf8Character DecodeUtf8(absl::string_view text, size_t at);

void AppendUtf8(char32_t code_point, std::string& out);

// Offset of the first byte that is not valid UTF-8.
std::optional<size_t> FindInvalidUtf8(absl::string_view text);

}  // namespace reprise
