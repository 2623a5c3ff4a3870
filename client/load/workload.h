// What a load test sends: sessions of one or more turns.
//
// Threading  one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace reprise::client::load {

// How the prompts of a session are sent.
enum class PromptForm {
  kTokens,    // ids: lengths are exact, and no text is encoded
  kText,      // one text a turn
  kMessages,  // a conversation in the model's chat format
};

struct Message {
  enum class Role { kSystem, kUser, kAssistant };
  Role role = Role::kUser;
  std::string content;
};

// One request: what is added to what the session holds.
struct Turn {
  double think_seconds = 0;       // from the end of the turn before it
  std::vector<int32_t> ids;       // kTokens
  std::string text;               // kText: the whole prompt
  std::vector<Message> messages;  // kMessages
  int32_t output_tokens = 1;      // most tokens of the reply, >= 0
};

// What becomes of a session whose next prompt does not fit the window.
enum class Overflow {
  kEnd,   // it ends
  kTrim,  // its oldest tokens after the first `kept_tokens` go, until half the window is free
};

struct Session {
  std::optional<double> start_seconds;  // of traces: since the trace's first
  std::string label;                    // goes into the records
  PromptForm form = PromptForm::kTokens;
  bool keeps_history = true;  // the turns and their real replies are sent again with the next
  Overflow overflow = Overflow::kEnd;
  int32_t kept_tokens = 0;
  int copies = 1;             // requests sent at the same moment; above 1 only of single turns
  bool second_token = false;  // sent with the second tenant's credentials
  std::vector<Turn> turns;
};

// Gives sessions one after another.
class SessionSource {
 public:
  virtual ~SessionSource() = default;

  // Nothing when there are no more; profiles never end.
  virtual std::optional<Session> Next() = 0;

  // Turns of a session, on average: a rate of requests divided by it is one of sessions.
  virtual double mean_turns() const { return 1; }
};

}  // namespace reprise::client::load
