// ChatTemplate renders a conversation into token ids, choosing the format from
// the model's own files. Only this code produces special tokens; the content of
// a message is encoded as ordinary text.
//
// Threading  immutable; safe from any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/ids.h"
#include "core/text/tokenizer.h"

namespace reprise {

enum class ChatRole { kSystem, kUser, kAssistant };

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::string content;  // UTF-8
};

enum class ChatFormat { kNone, kChatMl, kDialoGpt, kLlama3, kGemma };

// Picks the format from the model's template source (Jinja text, may be empty),
// its architecture name ("gpt2", "llama") and the special tokens it has. A
// model without a recognisable template is kNone.
ChatFormat DetectChatFormat(absl::string_view template_source, absl::string_view architecture,
                            const Tokenizer& tokenizer);

class ChatTemplate {
 public:
  // `default_system` is what the model's own template puts in front when the
  // conversation has no system message (empty or not UTF-8:
  // nothing).
  ChatTemplate(ChatFormat format, const Tokenizer* tokenizer, std::string default_system);

  // The default system text the template source carries ("You are a helpful AI
  // assistant named SmolLM…"), or empty.
  static std::string DefaultSystemFromTemplate(absl::string_view template_source);

  // Ids of the conversation followed by the opening of the assistant's turn.
  // kInvalidArgument: no messages, a role out of order, invalid UTF-8;
  // kFailedPrecondition: the model has no chat format.
  absl::StatusOr<std::vector<TokenId>> Render(absl::Span<const ChatMessage> messages) const;

  // Ids that end an assistant turn, in addition to the tokenizer's EOS.
  std::vector<TokenId> EndOfTurnIds() const;

  ChatFormat format() const { return format_; }

 private:
  ChatFormat format_;
  const Tokenizer* tokenizer_;  // outlives this
  std::string default_system_;
};

}  // namespace reprise
