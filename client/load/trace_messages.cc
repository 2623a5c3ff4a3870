// Traces that hold conversations: ShareGPT and OpenAI-style lists of messages.
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/load/trace_parts.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"

namespace reprise::client::load {
namespace {

// Common text has about four bytes a token; a window is filled by no more than this many.
constexpr size_t kBytesPerToken = 3;
constexpr size_t kTypicalBytesPerToken = 4;

// Of a message in the trace; nothing for one that is left out.
absl::StatusOr<Message::Role> ParseRole(const std::string& role) {
  if (role == "system" || role == "developer") return Message::Role::kSystem;
  if (role == "user" || role == "human") return Message::Role::kUser;
  if (role == "assistant" || role == "gpt" || role == "chatgpt" || role == "bard" ||
      role == "bing" || role == "model") {
    return Message::Role::kAssistant;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("role \"", role, "\", expected system, user or assistant"));
}

// Text, or a list of parts of type text.
absl::StatusOr<std::string> ParseContent(const JsonValue& content) {
  if (content.kind() != JsonValue::Kind::kArray) return content.AsString();
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    ASSIGN_OR_RETURN(const JsonValue part, content.At(i));
    ASSIGN_OR_RETURN(const JsonValue piece, part.Get("text"));
    ASSIGN_OR_RETURN(const std::string words, piece.AsString());
    text += words;
  }
  return text;
}

absl::StatusOr<std::vector<Message>> ParseMessages(const JsonValue& list, const char* role_key,
                                                   const char* content_key) {
  if (list.kind() != JsonValue::Kind::kArray) {
    return absl::InvalidArgumentError(absl::StrCat(list.path(), ": expected a list of messages"));
  }
  std::vector<Message> messages;
  for (size_t i = 0; i < list.size(); ++i) {
    ASSIGN_OR_RETURN(const JsonValue item, list.At(i));
    ASSIGN_OR_RETURN(const JsonValue role, item.Get(role_key));
    ASSIGN_OR_RETURN(const std::string name, role.AsString());
    ASSIGN_OR_RETURN(const Message::Role who, ParseRole(absl::AsciiStrToLower(name)));
    ASSIGN_OR_RETURN(const JsonValue content, item.Get(content_key));
    ASSIGN_OR_RETURN(std::string text, ParseContent(content));
    messages.push_back({who, std::move(text)});
  }
  return messages;
}

class ConversationReader {
 public:
  ConversationReader(const TraceOptions& options, TraceFacts& facts)
      : options_(options), facts_(facts) {}

  absl::StatusOr<Session> Parse(const JsonValue& item) const {
    if (options_.format == TraceFormat::kShareGpt) {
      ASSIGN_OR_RETURN(const JsonValue list, item.Get("conversations"));
      ASSIGN_OR_RETURN(auto messages, ParseMessages(list, "from", "value"));
      return ToSession(std::move(messages), options_.default_output_tokens);
    }
    if (item.kind() == JsonValue::Kind::kArray) {
      ASSIGN_OR_RETURN(auto messages, ParseMessages(item, "role", "content"));
      return ToSession(std::move(messages), options_.default_output_tokens);
    }
    ASSIGN_OR_RETURN(const JsonValue body, item.Has("body") ? item.Get("body") : item);
    const char* key = body.Has("messages") ? "messages" : "conversation";
    ASSIGN_OR_RETURN(const JsonValue list, body.Get(key));
    ASSIGN_OR_RETURN(auto messages, ParseMessages(list, "role", "content"));
    ASSIGN_OR_RETURN(const int64_t most, body.IntOr("max_tokens", options_.default_output_tokens));
    if (most < 1 || most > 1'000'000) {
      return absl::InvalidArgumentError(
          absl::StrCat("max_tokens: ", most, ", must be in [1, 1000000]"));
    }
    ASSIGN_OR_RETURN(Session session, ToSession(std::move(messages), static_cast<int32_t>(most)));
    if (item.Has("timestamp")) RETURN_IF_ERROR(SetTime(item, session));
    return session;
  }

 private:
  static absl::Status SetTime(const JsonValue& item, Session& session) {
    ASSIGN_OR_RETURN(const JsonValue time, item.Get("timestamp"));
    if (time.kind() != JsonValue::Kind::kNumber) return absl::OkStatus();  // dates are left out
    ASSIGN_OR_RETURN(const double seconds, time.AsDouble());
    if (!std::isfinite(seconds) || std::abs(seconds) > 1e12) {
      return absl::InvalidArgumentError(
          absl::StrCat("timestamp: ", seconds, ", must be below 1e12"));
    }
    session.start_seconds = seconds;
    return absl::OkStatus();
  }

  // A turn begins with what is said before a reply; recorded replies only give their lengths.
  absl::StatusOr<Session> ToSession(std::vector<Message> messages, int32_t output) const {
    Session session;
    session.form = PromptForm::kMessages;
    const auto most = std::max(1, options_.context_length / 4);
    bool open = false;  // the last turn has no reply yet
    for (Message& message : messages) {
      if (message.role == Message::Role::kAssistant) {
        if (open) {
          const auto length = message.content.size() / kTypicalBytesPerToken;
          session.turns.back().output_tokens =
              static_cast<int32_t>(std::clamp<size_t>(length, 1, most));
        }
        open = false;
        continue;
      }
      const bool first = session.turns.empty() && !open;
      if (message.role == Message::Role::kSystem && !first) message.role = Message::Role::kUser;
      if (!open) session.turns.emplace_back().output_tokens = std::min(output, most);
      open = true;
      AddMessage(session.turns.back(), std::move(message));
    }
    return Checked(std::move(session));
  }

  // Two messages of the same person become one, which every chat format can say.
  static void AddMessage(Turn& turn, Message message) {
    if (!turn.messages.empty() && turn.messages.back().role == message.role) {
      absl::StrAppend(&turn.messages.back().content, "\n", message.content);
    } else {
      turn.messages.push_back(std::move(message));
    }
  }

  absl::StatusOr<Session> Checked(Session session) const {
    const auto silent = [](const Turn& turn) {
      return turn.messages.back().role != Message::Role::kUser ||
             turn.messages.back().content.empty();
    };
    if (session.turns.empty() || silent(session.turns[0])) {
      return absl::InvalidArgumentError("nobody asks anything");
    }
    const auto end = std::find_if(session.turns.begin(), session.turns.end(), silent);
    session.turns.erase(end, session.turns.end());
    Clip(session.turns[0]);
    return session;
  }

  // Cuts the last message so that the turn fits the window, at a character's border.
  void Clip(Turn& turn) const {
    size_t bytes = 0;
    for (const Message& message : turn.messages) bytes += message.content.size();
    const auto tokens = std::max(1, options_.context_length - turn.output_tokens);
    const size_t most = static_cast<size_t>(tokens) * kBytesPerToken;
    if (bytes <= most) return;
    std::string& text = turn.messages.back().content;
    size_t keep = text.size() - std::min(text.size() - 1, bytes - most);
    while (keep > 1 && (static_cast<unsigned char>(text[keep]) & 0xC0) == 0x80) --keep;
    text.resize(keep);
    ++facts_.clipped;
  }

  const TraceOptions& options_;
  TraceFacts& facts_;
};

class ConversationSource final : public TraceSource {
 public:
  ConversationSource(std::vector<Session> sessions, TraceFacts facts)
      : sessions_(std::move(sessions)) {
    facts_ = std::move(facts);
    facts_.needs_chat_format = true;
    facts_.sessions = static_cast<int64_t>(sessions_.size());
    facts_.timed = !sessions_.empty();
    for (const Session& session : sessions_) {
      facts_.requests += static_cast<int64_t>(session.turns.size());
      facts_.timed = facts_.timed && session.start_seconds.has_value();
    }
    if (facts_.sessions > 0) {
      facts_.mean_turns =
          static_cast<double>(facts_.requests) / static_cast<double>(facts_.sessions);
    }
    if (facts_.timed) SortByTime();
  }

  std::optional<Session> Next() override {
    if (at_ >= sessions_.size()) return std::nullopt;
    return std::move(sessions_[at_++]);
  }

 private:
  void SortByTime() {
    const auto earlier = [](const Session& a, const Session& b) {
      return *a.start_seconds < *b.start_seconds;
    };
    std::stable_sort(sessions_.begin(), sessions_.end(), earlier);
    const double first = *sessions_[0].start_seconds;
    for (Session& session : sessions_) *session.start_seconds -= first;
  }

  std::vector<Session> sessions_;
  size_t at_ = 0;
};

// A list of conversations over several lines, the first of which is no value of its own.
std::optional<JsonValue> ParseDocument(absl::string_view text) {
  Lines lines(text);
  absl::string_view line;
  while (lines.Next(line)) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    if (line.front() != '[' || JsonValue::Parse(line).ok()) return std::nullopt;
    auto document = JsonValue::Parse(text);
    return document.ok() ? std::optional(*std::move(document)) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TraceSource>> ParseConversations(absl::string_view text,
                                                                const TraceOptions& options) {
  TraceFacts facts;
  MalformedLog malformed(options, facts);
  const ConversationReader reader(options, facts);
  std::vector<Session> sessions;
  const auto add = [&](int64_t place, const absl::StatusOr<JsonValue>& item) {
    auto session = item.ok() ? reader.Parse(*item) : item.status();
    if (!session.ok()) return malformed.Add(place, session.status());
    sessions.push_back(*std::move(session));
    return absl::OkStatus();
  };
  const auto add_list = [&](const JsonValue& list) {
    for (size_t i = 0; i < list.size(); ++i) {
      RETURN_IF_ERROR(add(static_cast<int64_t>(i) + 1, list.At(i)));
    }
    return absl::OkStatus();
  };
  if (const auto document = ParseDocument(text)) {
    RETURN_IF_ERROR(add_list(*document));
    return std::make_unique<ConversationSource>(std::move(sessions), std::move(facts));
  }
  Lines lines(text);
  absl::string_view line;
  while (lines.Next(line)) {
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    auto item = JsonValue::Parse(line);
    // A whole list of conversations on one line.
    const bool nested = item.ok() && item->kind() == JsonValue::Kind::kArray && item->size() > 0 &&
                        !item->At(0)->Has("role");
    RETURN_IF_ERROR(nested ? add_list(*item) : add(lines.number(), item));
  }
  return std::make_unique<ConversationSource>(std::move(sessions), std::move(facts));
}

}  // namespace reprise::client::load
