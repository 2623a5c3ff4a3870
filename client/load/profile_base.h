// What the profiles share, and those that live in files of their own.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "client/load/profiles.h"
#include "client/load/shapes.h"

namespace reprise::client::load {

inline constexpr int kLeastTokens = 8;

class Profile : public SessionSource {
 protected:
  explicit Profile(const ProfileOptions& options)
      : options_(options),
        scale_(options.length_scale * options.context_length / kShapeWindow),
        random_(options.seed) {}

  // `tokens` of a window of 8192 in the model's; at most half of it.
  int Scaled(double tokens) const {
    const double most = options_.context_length / 2.0;
    return std::max(kLeastTokens, static_cast<int>(std::min(tokens * scale_, most)));
  }
  // Replies may be shorter than prompts.
  int ScaledReply(double tokens) const {
    const double most = options_.context_length / 4.0;
    return std::max(1, static_cast<int>(std::min(tokens * scale_, most)));
  }
  std::vector<int32_t> Ids(int count) { return random_.Ids(count, options_.vocabulary_size); }

  static void Append(std::vector<int32_t>& to, const std::vector<int32_t>& ids) {
    to.insert(to.end(), ids.begin(), ids.end());
  }

  const ProfileOptions options_;
  const double scale_;
  Random random_;
};

std::unique_ptr<SessionSource> CreatePaperProfile(const ProfileOptions& options);
std::unique_ptr<SessionSource> CreateAdversarialProfile(const ProfileOptions& options);

}  // namespace reprise::client::load
