// GPT-2's byte alphabet: every byte as one printable Unicode character.
// Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace reprise {

// The UTF-8 text that stands for each byte.
const std::array<std::string, 256>& ByteLetters();

// The bytes a token of letters stands for; nullopt when a character is no letter.
std::optional<std::string> LettersToBytes(absl::string_view letters);

}  // namespace reprise
