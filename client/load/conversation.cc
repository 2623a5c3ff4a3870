#include "client/load/conversation.h"

#include <algorithm>
#include <utility>

namespace reprise::client::load {
namespace {

using inference::v1::GenerationSpec;

// Tokens that a message adds at most: three bytes each of common text, and its markers.
int64_t EstimatedTokens(const std::vector<Message>& messages) {
  int64_t tokens = 0;
  for (const Message& message : messages) {
    tokens += static_cast<int64_t>(message.content.size()) / 3 + 8;
  }
  return tokens;
}

inference::v1::ChatRole RoleOf(Message::Role role) {
  switch (role) {
    case Message::Role::kSystem:
      return inference::v1::CHAT_ROLE_SYSTEM;
    case Message::Role::kAssistant:
      return inference::v1::CHAT_ROLE_ASSISTANT;
    default:
      return inference::v1::CHAT_ROLE_USER;
  }
}

}  // namespace

Conversation::Conversation(Session session, int32_t window)
    : session_(std::move(session)), window_(window) {}

bool Conversation::MakeNext(GenerationSpec& spec) {
  const Turn& turn = session_.turns[next_];
  ++next_;
  spec.set_max_output_tokens(turn.output_tokens);
  bool fits = true;
  switch (session_.form) {
    case PromptForm::kTokens:
      fits = MakeTokens(turn, spec);
      break;
    case PromptForm::kMessages:
      fits = MakeMessages(turn, spec);
      break;
    case PromptForm::kText:
      spec.mutable_prompt()->set_text(turn.text);
  }
  if (!fits) next_ = static_cast<int>(session_.turns.size());
  return fits;
}

bool Conversation::MakeTokens(const Turn& turn, GenerationSpec& spec) {
  if (!session_.keeps_history) ids_.clear();
  const size_t needed = turn.ids.size() + turn.output_tokens;
  const auto window = static_cast<size_t>(window_);
  if (ids_.size() + needed > window) {
    if (session_.overflow == Overflow::kEnd) return false;
    Trim(needed);
    if (ids_.size() + needed > window) return false;
  }
  ids_.insert(ids_.end(), turn.ids.begin(), turn.ids.end());
  spec.mutable_prompt()->mutable_token_ids()->mutable_ids()->Assign(ids_.begin(), ids_.end());
  return true;
}

void Conversation::Trim(size_t needed) {
  const size_t half = static_cast<size_t>(window_) / 2;
  const size_t room = half > needed ? half - needed : 0;
  const size_t kept = std::min<size_t>(session_.kept_tokens, ids_.size());
  const size_t recent = room > kept ? std::min(room - kept, ids_.size() - kept) : 0;
  ids_.erase(ids_.begin() + static_cast<std::ptrdiff_t>(kept),
             ids_.end() - static_cast<std::ptrdiff_t>(recent));
}

bool Conversation::MakeMessages(const Turn& turn, GenerationSpec& spec) {
  if (!session_.keeps_history) messages_.clear();
  if (!messages_.empty() &&
      message_tokens_ + EstimatedTokens(turn.messages) + turn.output_tokens > window_) {
    return false;
  }
  messages_.insert(messages_.end(), turn.messages.begin(), turn.messages.end());
  auto& conversation = *spec.mutable_prompt()->mutable_conversation();
  conversation.clear_messages();
  for (const Message& message : messages_) {
    auto& sent = *conversation.add_messages();
    sent.set_role(RoleOf(message.role));
    sent.set_content(message.content);
  }
  return true;
}

void Conversation::Reply(const inference::v1::Generation& reply) {
  if (!session_.keeps_history) return;
  if (session_.form == PromptForm::kTokens) {
    ids_.insert(ids_.end(), reply.token_ids().begin(), reply.token_ids().end());
  } else if (session_.form == PromptForm::kMessages) {
    messages_.push_back({Message::Role::kAssistant, reply.text()});
    message_tokens_ =
        int64_t{reply.usage().prompt_token_count()} + reply.usage().output_token_count();
  }
}

}  // namespace reprise::client::load
