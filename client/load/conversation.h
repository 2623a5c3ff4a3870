// One session as it runs: holds what was said and makes the prompt of the next turn.
//
// Threading  one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "client/load/workload.h"
#include "reprise/inference/v1/generation.pb.h"

namespace reprise::client::load {

class Conversation {
 public:
  // Prompts and replies together stay within `window` tokens.
  Conversation(Session session, int32_t window);

  const Session& session() const { return session_; }
  int turn() const { return next_; }  // number of the next turn, from 0
  bool Done() const { return next_ >= static_cast<int>(session_.turns.size()); }

  // The next turn's thinking time; not to be asked when Done().
  double ThinkSeconds() const { return session_.turns[next_].think_seconds; }

  // Fills in prompt and most output tokens of the next turn and goes past it. False when it does
  // not fit the window any more: then the session is done.
  bool MakeNext(inference::v1::GenerationSpec& spec);

  // The reply to the last one, which the next turn sends again.
  void Reply(const inference::v1::Generation& reply);

 private:
  bool MakeTokens(const Turn& turn, inference::v1::GenerationSpec& spec);
  bool MakeMessages(const Turn& turn, inference::v1::GenerationSpec& spec);
  void Trim(size_t needed);

  Session session_;
  const int32_t window_;
  int next_ = 0;
  std::vector<int32_t> ids_;
  std::vector<Message> messages_;
  int64_t message_tokens_ = 0;  // of the last prompt and its reply, as the server counted them
};

}  // namespace reprise::client::load
