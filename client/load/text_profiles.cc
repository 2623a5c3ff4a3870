// The profiles paper and adversarial.
#include <array>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/load/profile_base.h"

namespace reprise::client::load {
namespace {

constexpr std::array<const char*, 8> kOpenings = {"Explain",
                                                  "Describe",
                                                  "Summarize",
                                                  "Tell me about",
                                                  "Give an overview of",
                                                  "What should I know about",
                                                  "Write a note on",
                                                  "Introduce"};
constexpr std::array<const char*, 12> kSubjects = {
    "machine learning", "the water cycle",    "photosynthesis",  "the Roman Empire",
    "black holes",      "the stock market",   "vaccines",        "ocean currents",
    "renewable energy", "the printing press", "plate tectonics", "classical music"};
constexpr std::array<const char*, 6> kManners = {
    "in simple terms.",      "for a beginner.",           "in two sentences.",
    "as if to a colleague.", "with attention to detail.", "without technical words."};
constexpr std::array<const char*, 6> kExtensions = {
    "Give an example application.", "Also mention its history.", "Keep it short.",
    "End with a question.",         "Compare it with today.",    "Name one open problem."};

template <size_t N>
const char* Pick(const std::array<const char*, N>& words, Random& random) {
  return words[random.Next() % N];
}

Session TextSession(std::string label, std::string text, int output_tokens) {
  Session session;
  session.label = std::move(label);
  session.form = PromptForm::kText;
  Turn turn;
  turn.text = std::move(text);
  turn.output_tokens = output_tokens;
  session.turns.push_back(std::move(turn));
  return session;
}

std::string Sentence(Random& random, int64_t number) {
  return absl::StrCat(Pick(kOpenings, random), " ", Pick(kSubjects, random), ", case ", number,
                      ", ", Pick(kManners, random));
}

// Ten prompts to cache, then six that begin with one of them each.
class PaperProfile final : public Profile {
 public:
  static constexpr int kCached = 10;
  static constexpr int kTests = 6;

  explicit PaperProfile(const ProfileOptions& options) : Profile(options) {}

  std::optional<Session> Next() override {
    const auto at = static_cast<int>(number_ % (kCached + kTests));
    if (at == 0) cached_.clear();
    ++number_;
    const int output = std::min(32, options_.context_length / 4);
    if (at < kCached) {
      cached_.push_back(Sentence(random_, number_));
      return TextSession("cache", cached_.back(), output);
    }
    const std::string& prefix = cached_[random_.Next() % cached_.size()];
    return TextSession("test", absl::StrCat(prefix, " ", Pick(kExtensions, random_)), output);
  }

 private:
  int64_t number_ = 0;
  std::vector<std::string> cached_;
};

class AdversarialProfile final : public Profile {
 public:
  explicit AdversarialProfile(const ProfileOptions& options)
      : Profile(options), base_(Ids(options.context_length / 4)) {
    cases_ = {[this] { return NearPrefix(); }, [this] { return MergedBorder(); },
              [this] { return SamePrompt(); }, [this] { return WholeWindow(); },
              [this] { return Burst(); }};
    if (options.second_tenant) cases_.emplace_back([this] { return OtherTenant(); });
  }

  // The cases in turn, each in its different shapes.
  std::optional<Session> Next() override { return cases_[number_++ % cases_.size()](); }

 private:
  Session Tokens(std::string label, std::vector<int32_t> ids, int output) {
    Session session;
    session.label = std::move(label);
    Turn turn;
    turn.ids = std::move(ids);
    turn.output_tokens = output;
    session.turns.push_back(std::move(turn));
    return session;
  }

  // One token of a prompt that is cached is another one; at block borders every other time.
  Session NearPrefix() {
    std::vector<int32_t> ids = base_;
    auto at = static_cast<size_t>(random_.Next() % ids.size());
    if (random_.Next() % 2 == 0) at = at / 16 * 16;
    ids[at] = (ids[at] + 1) % options_.vocabulary_size;
    return Tokens("near_prefix", std::move(ids), kReply);
  }

  // A text, or the same text cut inside a word: its last token is another one.
  Session MergedBorder() {
    const std::string text = absl::StrCat(kOpenings[0], " ", kSubjects[0], " ", kManners[0],
                                          " The international communications");
    const auto cut = static_cast<size_t>(random_.Within(0, 14));
    return TextSession("merged_border", text.substr(0, text.size() - cut), kReply);
  }

  // Nothing follows what is cached.
  Session SamePrompt() { return Tokens("same_prompt", base_, kReply); }

  // The prompt fills the window but for one token.
  Session WholeWindow() {
    std::vector<int32_t> ids = base_;
    Append(ids, Ids(options_.context_length - 1 - static_cast<int>(ids.size())));
    return Tokens("whole_window", std::move(ids), 1);
  }

  // The same new prompt several times at one moment.
  Session Burst() {
    Session session = Tokens("burst", Ids(options_.context_length / 4), kReply);
    session.copies = 4;
    return session;
  }

  // What is cached for one tenant is asked for by another.
  Session OtherTenant() {
    Session session = Tokens("other_tenant", base_, kReply);
    session.second_token = true;
    return session;
  }

  static constexpr int kReply = 8;
  const std::vector<int32_t> base_;
  std::vector<std::function<Session()>> cases_;
  size_t number_ = 0;
};

}  // namespace

std::unique_ptr<SessionSource> CreatePaperProfile(const ProfileOptions& options) {
  return std::make_unique<PaperProfile>(options);
}

std::unique_ptr<SessionSource> CreateAdversarialProfile(const ProfileOptions& options) {
  return std::make_unique<AdversarialProfile>(options);
}

}  // namespace reprise::client::load
