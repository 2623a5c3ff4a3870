#include "client/load/profiles.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/load/profile_base.h"

namespace reprise::client::load {
namespace {

constexpr int32_t kLeastWindow = 64;

class ChatProfile final : public Profile {
 public:
  explicit ChatProfile(const ProfileOptions& options)
      : Profile(options), popularity_(kChatSystemPrompts, kChatSystemExponent) {
    for (int i = 0; i < kChatSystemPrompts; ++i) {
      systems_.push_back(Ids(Scaled(ChatSystemTokens(random_))));
    }
  }

  std::optional<Session> Next() override {
    Session session;
    const size_t system = popularity_.Draw(random_);
    session.label = absl::StrCat("system-", system);
    const int turns = ChatTurns(random_);
    for (int i = 0; i < turns; ++i) {
      Turn turn;
      if (i == 0) turn.ids = systems_[system];
      Append(turn.ids, Ids(Scaled(ChatUserTokens(random_))));
      turn.output_tokens = ScaledReply(ChatReplyTokens(random_));
      turn.think_seconds = i == 0 ? 0 : ChatThinkSeconds(random_);
      session.turns.push_back(std::move(turn));
    }
    return session;
  }

  double mean_turns() const override { return kChatMeanTurns; }

 private:
  Zipf popularity_;
  std::vector<std::vector<int32_t>> systems_;
};

class ApiProfile final : public Profile {
 public:
  explicit ApiProfile(const ProfileOptions& options)
      : Profile(options), popularity_(kApiTemplates, kApiTemplateExponent) {
    for (int i = 0; i < kApiTemplates; ++i) {
      templates_.push_back(Ids(Scaled(ApiTemplateTokens(random_))));
    }
  }

  std::optional<Session> Next() override {
    Session session;
    const size_t chosen = popularity_.Draw(random_);
    session.label = absl::StrCat("template-", chosen);
    Turn turn;
    turn.ids = templates_[chosen];
    Append(turn.ids, Ids(Scaled(ApiOwnTokens(random_))));
    turn.output_tokens = ScaledReply(ApiReplyTokens(random_));
    session.turns.push_back(std::move(turn));
    return session;
  }

 private:
  Zipf popularity_;
  std::vector<std::vector<int32_t>> templates_;
};

// A document of 2 to 8 windows is asked about by passages that fit.
class DocumentProfile final : public Profile {
 public:
  static constexpr int kDocuments = 200;

  explicit DocumentProfile(const ProfileOptions& options)
      : Profile(options),
        popularity_(kDocuments, 0.9),
        passage_tokens_(std::max(kLeastTokens, options.context_length / 2)) {
    for (int i = 0; i < kDocuments; ++i) {
      const int tokens = random_.Within(2, 8) * options.context_length;
      passages_.push_back(std::max(1, tokens / passage_tokens_));
    }
  }

  std::optional<Session> Next() override {
    Session session;
    const auto document = static_cast<int>(popularity_.Draw(random_));
    const int passage = random_.Within(0, passages_[document] - 1);
    session.label = absl::StrCat("document-", document, "-", passage);
    session.keeps_history = false;
    // A passage is drawn again from its own seed rather than kept: all of them are megabytes.
    Random text(options_.seed * 1000003 + static_cast<uint64_t>(document) * 64 + passage);
    const std::vector<int32_t> ids = text.Ids(passage_tokens_, options_.vocabulary_size);
    const int questions = random_.Within(1, 5);
    for (int i = 0; i < questions; ++i) {
      Turn turn;
      turn.ids = ids;
      Append(turn.ids, Ids(Scaled(random_.LogNormal(40, 0.8))));
      turn.output_tokens = ScaledReply(random_.LogNormal(100, 0.8));
      turn.think_seconds = i == 0 ? 0 : random_.LogNormal(20, 1);
      session.turns.push_back(std::move(turn));
    }
    return session;
  }

  double mean_turns() const override { return 3; }

 private:
  Zipf popularity_;
  const int passage_tokens_;
  std::vector<int> passages_;
};

// Facts are planted in some turns, replaced by newer ones, and asked for again much later.
class LongChatProfile final : public Profile {
 public:
  static constexpr int kTurns = 200;
  static constexpr int kFacts = 10;

  explicit LongChatProfile(const ProfileOptions& options) : Profile(options) {}

  std::optional<Session> Next() override {
    Session session;
    session.label = absl::StrCat("long-chat-", number_++);
    session.overflow = Overflow::kTrim;
    // All turns together are 5 to 64 windows, drawn evenly on a logarithmic scale.
    const double windows = 5 * std::pow(64.0 / 5, random_.Unit());
    const double each = windows * options_.context_length / kTurns;
    const int most = options_.context_length / 4;
    std::vector<std::vector<int32_t>> facts(kFacts);
    for (int i = 0; i < kTurns; ++i) {
      Turn turn;
      if (i == 0) {
        turn.ids = Ids(Scaled(ChatSystemTokens(random_)));
        session.kept_tokens = static_cast<int32_t>(turn.ids.size());
      }
      std::vector<int32_t>& fact = facts[i % kFacts];
      if (i / kFacts % 4 == 0) fact = Ids(kLeastTokens);  // planted, later updated
      const int asked = static_cast<int>(each / 2 * random_.LogNormal(1, 0.4));
      Append(turn.ids, Ids(std::clamp(asked, kLeastTokens, most)));
      Append(turn.ids, fact);
      const int reply = static_cast<int>(each / 2 * random_.LogNormal(1, 0.4));
      turn.output_tokens = std::clamp(reply, 1, most);
      turn.think_seconds = i == 0 ? 0 : ChatThinkSeconds(random_);
      session.turns.push_back(std::move(turn));
    }
    return session;
  }

  double mean_turns() const override { return kTurns; }

 private:
  int number_ = 0;
};

class ColdProfile final : public Profile {
 public:
  explicit ColdProfile(const ProfileOptions& options) : Profile(options) {}

  std::optional<Session> Next() override {
    Session session;
    session.label = "cold";
    Turn turn;
    turn.ids = Ids(Scaled(random_.LogNormal(1000, 0.8)));
    turn.output_tokens = ScaledReply(random_.LogNormal(130, 0.9));
    session.turns.push_back(std::move(turn));
    return session;
  }
};

}  // namespace

const std::vector<std::string>& ProfileNames() {
  static const auto* const names = new std::vector<std::string>{
      "chat", "api", "doc-qa", "long-chat", "cold", "paper", "adversarial"};
  return *names;
}

Arrival ProfileArrival(absl::string_view name) {
  return name == "api" ? Arrival::kGamma : Arrival::kPoisson;
}

absl::StatusOr<std::unique_ptr<SessionSource>> CreateProfile(absl::string_view name,
                                                             ProfileOptions options) {
  // Two profiles of one seed have nothing in common.
  for (const char c : name) options.seed = options.seed * 1099511628211 + static_cast<uint8_t>(c);
  if (options.context_length < kLeastWindow || options.vocabulary_size < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--profile: the model's window is ",
                                                   options.context_length,
                                                   " tokens, profiles need ", kLeastWindow));
  }
  if (name == "chat") return std::make_unique<ChatProfile>(options);
  if (name == "api") return std::make_unique<ApiProfile>(options);
  if (name == "doc-qa") return std::make_unique<DocumentProfile>(options);
  if (name == "long-chat") return std::make_unique<LongChatProfile>(options);
  if (name == "cold") return std::make_unique<ColdProfile>(options);
  if (name == "paper") return CreatePaperProfile(options);
  if (name == "adversarial") return CreateAdversarialProfile(options);
  return absl::InvalidArgumentError(absl::StrCat("--profile: \"", name, "\", expected one of ",
                                                 absl::StrJoin(ProfileNames(), ", ")));
}

}  // namespace reprise::client::load
