// How long conversations, templates and replies are, and how often each is used:
// figures that published traces have in common (Mooncake, Alibaba, WildChat;
// docs/bench.md). Tokens of a window of 8192; seconds at their real pace.
#pragma once

#include "client/load/random.h"

namespace reprise::client::load {

inline constexpr int kShapeWindow = 8192;

inline constexpr int kChatSystemPrompts = 20;
inline constexpr double kChatSystemExponent = 1.0;
inline constexpr int kChatMaxTurns = 40;
inline constexpr double kChatMeanTurns = 2.5;
inline int ChatSystemTokens(Random& random) { return random.Within(64, 512); }
inline double ChatUserTokens(Random& random) { return random.LogNormal(40, 1.2); }
inline double ChatReplyTokens(Random& random) { return random.LogNormal(130, 0.9); }
// p90 at eight minutes.
inline double ChatThinkSeconds(Random& random) { return random.LogNormal(60, 1.62); }
// 1 + geometric.
inline int ChatTurns(Random& random) {
  int turns = 1;
  while (turns < kChatMaxTurns && random.Unit() > 1 / kChatMeanTurns) ++turns;
  return turns;
}

inline constexpr int kApiTemplates = 8;
inline constexpr double kApiTemplateExponent = 1.2;
inline constexpr double kApiArrivalCv = 3;
inline int ApiTemplateTokens(Random& random) { return random.Within(512, 2048); }
inline int ApiOwnTokens(Random& random) { return random.Within(20, 200); }
inline int ApiReplyTokens(Random& random) { return random.Within(1, 60); }

}  // namespace reprise::client::load
