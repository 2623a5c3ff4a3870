#include "core/text/chat_template.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/text/utf8.h"

namespace reprise {
namespace {

const char* RoleName(ChatRole role) {
  switch (role) {
    case ChatRole::kSystem:
      return "system";
    case ChatRole::kUser:
      return "user";
    case ChatRole::kAssistant:
      return "assistant";
  }
  return "";
}

// System first if at all, then user and assistant in turn, a user last.
absl::Status CheckOrder(absl::Span<const ChatMessage> messages) {
  if (messages.empty()) return absl::InvalidArgumentError("messages: empty");
  ChatRole expected = ChatRole::kUser;
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatRole role = messages[i].role;
    if (i == 0 && role == ChatRole::kSystem) continue;
    if (role != expected) {
      return absl::InvalidArgumentError(absl::StrCat("messages[", i, "].role is ", RoleName(role),
                                                     ", expected ", RoleName(expected)));
    }
    expected = role == ChatRole::kUser ? ChatRole::kAssistant : ChatRole::kUser;
  }
  if (messages.back().role == ChatRole::kUser) return absl::OkStatus();
  return absl::InvalidArgumentError("messages: the last message must be the user's");
}

// Collects ids; the first failure sticks.
class IdBuilder {
 public:
  explicit IdBuilder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  IdBuilder& Special(const char* literal) {
    const auto id = tokenizer_.SpecialToken(literal);
    if (id) {
      ids_.push_back(*id);
    } else if (status_.ok()) {
      status_ = absl::FailedPreconditionError(
          absl::StrCat("the vocabulary has no token ", literal, " for its chat format"));
    }
    return *this;
  }

  IdBuilder& Id(std::optional<TokenId> id) {
    if (id) ids_.push_back(*id);
    return *this;
  }

  IdBuilder& Text(absl::string_view text) {
    if (!status_.ok()) return *this;
    auto ids = tokenizer_.Encode(text);
    if (ids.ok()) {
      ids_.insert(ids_.end(), ids->begin(), ids->end());
    } else {
      status_ = ids.status();
    }
    return *this;
  }

  absl::StatusOr<std::vector<TokenId>> Finish() {
    if (!status_.ok()) return status_;
    return std::move(ids_);
  }

 private:
  const Tokenizer& tokenizer_;
  std::vector<TokenId> ids_;
  absl::Status status_;
};

void AddChatMl(IdBuilder& ids, absl::string_view role, absl::string_view content) {
  ids.Special("<|im_start|>").Text(absl::StrCat(role, "\n", content)).Special("<|im_end|>");
  ids.Text("\n");
}

// What Python's str.strip takes off, and so Jinja's trim.
bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

absl::string_view Trim(absl::string_view text) {
  size_t begin = text.size(), end = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Character c = DecodeUtf8(text, at);
    if (!c.valid || !IsSpace(c.code_point)) {
      begin = std::min(begin, at);
      end = at + c.length;
    }
    at += c.length;
  }
  return begin < end ? text.substr(begin, end - begin) : absl::string_view();
}

// Llama-3's template trims each message; ChatML's templates do not.
void AddLlama3(IdBuilder& ids, absl::string_view role, absl::string_view content) {
  ids.Special("<|start_header_id|>").Text(role).Special("<|end_header_id|>");
  ids.Text(absl::StrCat("\n\n", Trim(content))).Special("<|eot_id|>");
}

// Gemma has no system turn: its template puts the text, as it is, before the user's first
// message, which it trims.
void AddGemma(IdBuilder& ids, absl::Span<const ChatMessage> messages) {
  std::string prefix;
  for (const ChatMessage& message : messages) {
    if (message.role == ChatRole::kSystem) {
      prefix = absl::StrCat(message.content, "\n\n");
      continue;
    }
    const char* role = message.role == ChatRole::kAssistant ? "model" : RoleName(message.role);
    ids.Special("<start_of_turn>").Text(absl::StrCat(role, "\n", prefix, Trim(message.content)));
    ids.Special("<end_of_turn>").Text("\n");
    prefix.clear();
  }
}

}  // namespace

ChatFormat DetectChatFormat(absl::string_view template_source, absl::string_view architecture,
                            const Tokenizer& tokenizer) {
  const auto has = [&](const char* literal) { return tokenizer.SpecialToken(literal).has_value(); };
  if (absl::StrContains(template_source, "<|start_header_id|>") && has("<|eot_id|>")) {
    return ChatFormat::kLlama3;
  }
  if (absl::StrContains(template_source, "<|im_start|>") && has("<|im_start|>")) {
    return ChatFormat::kChatMl;
  }
  if (absl::StrContains(template_source, "<start_of_turn>") && has("<start_of_turn>")) {
    return ChatFormat::kGemma;
  }
  // DialoGPT's own template puts only EOS between turns; plain GPT-2 files say nothing.
  if (architecture == "gpt2" && tokenizer.eos_id().has_value()) return ChatFormat::kDialoGpt;
  return ChatFormat::kNone;
}

ChatTemplate::ChatTemplate(ChatFormat format, const Tokenizer* tokenizer,
                           std::string default_system)
    : format_(format), tokenizer_(tokenizer), default_system_(std::move(default_system)) {
  // A template of damaged bytes must not make every conversation fail.
  if (FindInvalidUtf8(default_system_)) default_system_.clear();
}

std::string ChatTemplate::DefaultSystemFromTemplate(absl::string_view source) {
  // As ChatML templates write it: '<|im_start|>system\nYou are …<|im_end|>\n'
  constexpr absl::string_view kOpenings[] = {"<|im_start|>system\\n", "<|im_start|>system\n"};
  for (const absl::string_view opening : kOpenings) {
    for (size_t at = source.find(opening); at != absl::string_view::npos;
         at = source.find(opening, at + 1)) {
      const absl::string_view rest = source.substr(at + opening.size());
      const absl::string_view text = rest.substr(0, rest.find("<|im_end|>"));
      // A quote means that the template splices the caller's message in here.
      if (text.size() < rest.size() && !absl::StrContains(text, "'")) return std::string(text);
    }
  }
  return "";
}

absl::StatusOr<std::vector<TokenId>> ChatTemplate::Render(
    absl::Span<const ChatMessage> messages) const {
  if (format_ == ChatFormat::kNone) {
    return absl::FailedPreconditionError("the model has no chat format; send text or token ids");
  }
  RETURN_IF_ERROR(CheckOrder(messages));
  IdBuilder ids(*tokenizer_);
  if (format_ == ChatFormat::kLlama3) ids.Special("<|begin_of_text|>");
  if (format_ == ChatFormat::kGemma) {
    AddGemma(ids.Special("<bos>"), messages);
    return ids.Special("<start_of_turn>").Text("model\n").Finish();
  }
  if (format_ == ChatFormat::kChatMl && messages[0].role != ChatRole::kSystem &&
      !default_system_.empty()) {
    AddChatMl(ids, "system", default_system_);
  }
  for (const ChatMessage& message : messages) {
    if (format_ == ChatFormat::kChatMl) {
      AddChatMl(ids, RoleName(message.role), message.content);
    } else if (format_ == ChatFormat::kLlama3) {
      AddLlama3(ids, RoleName(message.role), message.content);
    } else {
      ids.Text(message.content).Id(tokenizer_->eos_id());
    }
  }
  if (format_ == ChatFormat::kChatMl) ids.Special("<|im_start|>").Text("assistant\n");
  if (format_ == ChatFormat::kLlama3) {
    ids.Special("<|start_header_id|>").Text("assistant").Special("<|end_header_id|>").Text("\n\n");
  }
  return ids.Finish();
}

std::vector<TokenId> ChatTemplate::EndOfTurnIds() const {
  const char* literal = format_ == ChatFormat::kChatMl   ? "<|im_end|>"
                        : format_ == ChatFormat::kLlama3 ? "<|eot_id|>"
                        : format_ == ChatFormat::kGemma  ? "<end_of_turn>"
                                                         : "";
  const auto id = tokenizer_->SpecialToken(literal);
  if (id) return {*id};
  return {};
}

}  // namespace reprise
