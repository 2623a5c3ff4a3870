#include "client/load/profiles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "absl/strings/match.h"
#include "client/load/conversation.h"

namespace reprise::client::load {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::UnorderedElementsAre;

constexpr int32_t kVocabulary = 5000;

std::vector<Session> Take(const std::string& name, int count, ProfileOptions options = {}) {
  if (options.context_length == 0) options.context_length = 2048;
  options.vocabulary_size = kVocabulary;
  auto source = CreateProfile(name, options);
  EXPECT_TRUE(source.ok()) << source.status();
  std::vector<Session> sessions;
  for (int i = 0; i < count; ++i) sessions.push_back((*source)->Next().value());
  return sessions;
}

// The prompts of a session whose replies are all as long as they may be.
std::vector<inference::v1::GenerationSpec> Play(const Session& session, int32_t window) {
  Conversation conversation(session, window);
  std::vector<inference::v1::GenerationSpec> specs;
  while (!conversation.Done()) {
    inference::v1::GenerationSpec spec;
    if (!conversation.MakeNext(spec)) break;
    inference::v1::Generation reply;
    for (int i = 0; i < spec.max_output_tokens(); ++i) reply.add_token_ids(i % kVocabulary);
    conversation.Reply(reply);
    specs.push_back(std::move(spec));
  }
  return specs;
}

size_t CommonTokens(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

TEST(ProfilesTest, EveryPromptFitsEveryWindow) {
  for (const std::string& name : ProfileNames()) {
    for (const int32_t window : {64, 1024, 8192}) {
      for (const Session& session : Take(name, window > 1024 ? 2 : 6, {.context_length = window})) {
        const auto specs = Play(session, window);
        EXPECT_FALSE(specs.empty()) << name << " " << window;
        for (const auto& spec : specs) {
          const int tokens = spec.prompt().token_ids().ids_size();
          EXPECT_LE(tokens + spec.max_output_tokens(), window) << name;
          const auto& ids = spec.prompt().token_ids().ids();
          EXPECT_TRUE(std::all_of(ids.begin(), ids.end(),
                                  [](int32_t id) { return id >= 0 && id < kVocabulary; }));
        }
      }
    }
  }
}

TEST(ProfilesTest, TheSeedDecidesAndProfilesShareNothing) {
  std::set<std::vector<int32_t>> first;
  for (const std::string& name : ProfileNames()) {
    const auto a = Take(name, 3), b = Take(name, 3), c = Take(name, 3, {.seed = 2});
    const auto content = [](const std::vector<Session>& sessions) {
      std::string text;
      for (const Session& s : sessions) {
        for (const Turn& turn : s.turns) {
          for (const int32_t id : turn.ids) text += std::to_string(id) + ",";
          text += turn.text;
        }
      }
      return text;
    };
    EXPECT_EQ(content(a), content(b)) << name;
    EXPECT_NE(content(a), content(c)) << name;
    if (a[0].form == PromptForm::kTokens) {
      EXPECT_TRUE(first
                      .insert(std::vector<int32_t>(a[0].turns[0].ids.begin(),
                                                   a[0].turns[0].ids.begin() + 8))
                      .second);
    }
  }
}

TEST(ProfilesTest, ChatHasItsTurnsLengthsAndFewSystemPrompts) {
  const auto sessions = Take("chat", 4000, {.context_length = 8192});
  double turns = 0;
  std::vector<double> replies, thinking;
  std::map<std::string, int> labels;
  for (const Session& session : sessions) {
    turns += static_cast<double>(session.turns.size());
    ++labels[session.label];
    for (const Turn& turn : session.turns) {
      replies.push_back(turn.output_tokens);
      if (turn.think_seconds > 0) thinking.push_back(turn.think_seconds);
    }
  }
  const auto median = [](std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
  };
  EXPECT_NEAR(turns / 4000, 2.5, 0.1);
  EXPECT_NEAR(median(replies), 130, 8);
  EXPECT_NEAR(median(thinking), 60, 6);
  EXPECT_EQ(labels.size(), 20u);
  // Zipf 1.0: the first of 20 has 1 / H(20) of the draws.
  EXPECT_NEAR(labels["system-0"] / 4000.0, 1 / 3.5977, 0.03);
}

TEST(ProfilesTest, ApiCallsShareTheirTemplateAndNothingElse) {
  const auto sessions = Take("api", 200, {.context_length = 8192});
  std::map<std::string, const Session*> seen;
  for (const Session& session : sessions) {
    EXPECT_EQ(session.turns.size(), 1u);
    const auto [known, added] = seen.try_emplace(session.label, &session);
    if (added) continue;
    const auto common = CommonTokens(known->second->turns[0].ids, session.turns[0].ids);
    const auto own = session.turns[0].ids.size() - common;
    EXPECT_THAT(common, AllOf(Ge(512u), Le(2050u)));
    EXPECT_THAT(own, AllOf(Ge(18u), Le(200u)));
  }
  EXPECT_EQ(seen.size(), 8u);
  EXPECT_EQ(ProfileArrival("api"), Arrival::kGamma);
}

TEST(ProfilesTest, QuestionsAboutOneDocumentRepeatItsPassage) {
  std::map<std::string, std::vector<int32_t>> passages;
  int repeated = 0;
  for (const Session& session : Take("doc-qa", 600)) {
    EXPECT_FALSE(session.keeps_history);
    EXPECT_THAT(session.turns.size(), AllOf(Ge(1u), Le(5u)));
    const std::vector<int32_t> passage(session.turns[0].ids.begin(),
                                       session.turns[0].ids.begin() + 1024);
    const auto [known, added] = passages.try_emplace(session.label, passage);
    EXPECT_EQ(known->second, passage);
    repeated += added ? 0 : 1;
    for (const Turn& turn : session.turns) EXPECT_GE(CommonTokens(turn.ids, passage), 1024u);
  }
  EXPECT_GT(repeated, 20);
}

TEST(ProfilesTest, ALongChatOutgrowsItsWindowAndGoesOnToItsEnd) {
  const Session session = Take("long-chat", 1)[0];
  size_t tokens = 0;
  for (const Turn& turn : session.turns) tokens += turn.ids.size() + turn.output_tokens;
  EXPECT_GT(tokens, 4 * 2048u);
  const auto specs = Play(session, 2048);
  EXPECT_EQ(specs.size(), 200u);
  const auto& first = specs[0].prompt().token_ids().ids();
  const auto& last = specs[199].prompt().token_ids().ids();
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + session.kept_tokens, last.begin()))
      << "the system prompt stays";
}

TEST(ProfilesTest, ColdPromptsHaveNothingInCommon) {
  const auto sessions = Take("cold", 50);
  for (size_t i = 1; i < sessions.size(); ++i) {
    EXPECT_LE(CommonTokens(sessions[i].turns[0].ids, sessions[i - 1].turns[0].ids), 2u);
  }
}

TEST(ProfilesTest, ThePapersTestPromptsExtendCachedOnes) {
  const auto sessions = Take("paper", 64);
  std::vector<std::string> cached;
  for (size_t i = 0; i < sessions.size(); ++i) {
    const std::string& text = sessions[i].turns[0].text;
    if (i % 16 == 0) cached.clear();
    if (i % 16 < 10) {
      EXPECT_EQ(sessions[i].label, "cache");
      cached.push_back(text);
      continue;
    }
    EXPECT_EQ(sessions[i].label, "test");
    EXPECT_TRUE(std::any_of(cached.begin(), cached.end(), [&](const std::string& prefix) {
      return absl::StartsWith(text, prefix) && text.size() > prefix.size();
    })) << text;
  }
}

TEST(ProfilesTest, AdversarialHasEachOfItsCases) {
  std::map<std::string, Session> cases;
  for (const Session& session : Take("adversarial", 60, {.second_tenant = true})) {
    cases.emplace(session.label, session);
  }
  std::vector<std::string> names;
  for (const auto& [name, session] : cases) names.push_back(name);
  EXPECT_THAT(names, UnorderedElementsAre("near_prefix", "merged_border", "same_prompt",
                                          "whole_window", "burst", "other_tenant"));
  const auto& base = cases["same_prompt"].turns[0].ids;
  auto near = cases["near_prefix"].turns[0].ids;
  const size_t at = CommonTokens(near, base);
  ASSERT_LT(at, base.size());
  near[at] = base[at];
  EXPECT_EQ(near, base) << "one token differs";
  EXPECT_EQ(cases["whole_window"].turns[0].ids.size(), 2047u);
  EXPECT_EQ(cases["burst"].copies, 4);
  EXPECT_TRUE(cases["other_tenant"].second_token);
  for (const Session& session : Take("adversarial", 60)) EXPECT_FALSE(session.second_token);
}

TEST(ProfilesTest, RefusesUnknownNamesAndTinyWindows) {
  EXPECT_THAT(
      std::string(
          CreateProfile("talk", {.context_length = 2048, .vocabulary_size = 9}).status().message()),
      HasSubstr("\"talk\", expected one of chat, api"));
  EXPECT_THAT(
      std::string(
          CreateProfile("chat", {.context_length = 63, .vocabulary_size = 9}).status().message()),
      HasSubstr("63 tokens, profiles need 64"));
}

}  // namespace
}  // namespace reprise::client::load
