// A sentence embedding without a model: counts letters, so that texts which share
// most of them are near.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace reprise {

inline constexpr int kLetterDimensions = 26;

inline absl::StatusOr<std::vector<float>> EmbedLetters(const std::string& text) {
  std::vector<float> vector(kLetterDimensions, 0.01f);
  for (const char c : text) {
    if (c >= 'a' && c <= 'z') vector[c - 'a'] += 1;
  }
  float square = 0;
  for (const float v : vector) square += v * v;
  for (float& v : vector) v /= std::sqrt(square);
  return vector;
}

}  // namespace reprise
