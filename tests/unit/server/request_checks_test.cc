#include "server/request_checks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <optional>

#include "absl/strings/match.h"
#include "tests/fakes/byte_model.h"

namespace reprise::server {
namespace {

using inference::v1::GenerationSpec;
namespace wire = inference::v1;

constexpr int32_t kContext = 64;

GenerationSpec TextSpec(const std::string& text) {
  GenerationSpec spec;
  spec.mutable_prompt()->set_text(text);
  return spec;
}

class RequestChecksTest : public testing::Test {
 protected:
  ByteModel model_{kContext};
};

// What a bad field must be answered with.
struct Refusal {
  const char* name;
  std::function<void(GenerationSpec&)> spoil;
  absl::StatusCode code;
  std::vector<const char*> words;  // in the message: field, value, limit
};

std::vector<Refusal> PromptRefusals() {
  constexpr auto kBad = absl::StatusCode::kInvalidArgument;
  return {
      {"no prompt", [](auto& s) { s.clear_prompt(); }, kBad, {"prompt", "empty"}},
      {"empty text", [](auto& s) { s.mutable_prompt()->set_text(""); }, kBad, {"prompt", "empty"}},
      {"no ids", [](auto& s) { s.mutable_prompt()->mutable_token_ids(); }, kBad, {"prompt"}},
      {"no messages",
       [](auto& s) { s.mutable_prompt()->mutable_conversation(); },
       kBad,
       {"prompt.conversation", "empty"}},
      {"unknown role",
       [](auto& s) {
         auto& messages = *s.mutable_prompt()->mutable_conversation()->mutable_messages();
         messages.Add()->set_role(wire::CHAT_ROLE_USER);
         messages.Add()->set_role(static_cast<wire::ChatRole>(9));
       },
       kBad,
       {"prompt.conversation.messages[1].role", "9"}},
      {"assistant first",
       [](auto& s) {
         s.mutable_prompt()->mutable_conversation()->add_messages()->set_role(
             wire::CHAT_ROLE_ASSISTANT);
       },
       kBad,
       {"prompt.conversation", "messages[0].role", "assistant"}},
      {"invalid UTF-8",
       [](auto& s) { s.mutable_prompt()->set_text("ab\xFF"); },
       kBad,
       {"prompt.text", "UTF-8", "2"}},
      {"negative id",
       [](auto& s) { s.mutable_prompt()->mutable_token_ids()->add_ids(-1); },
       kBad,
       {"prompt.token_ids", "-1", "256"}},
      {"id past the vocabulary",
       [](auto& s) { s.mutable_prompt()->mutable_token_ids()->add_ids(123456789); },
       kBad,
       {"prompt.token_ids", "123456789", "256"}},
      {"over-long prompt",
       [](auto& s) { s.mutable_prompt()->set_text(std::string(kContext + 1, 'a')); },
       kBad,
       {"prompt", "65", "64"}},
      {"prompt that fills the window without a limit",
       [](auto& s) { s.mutable_prompt()->set_text(std::string(kContext, 'a')); },
       kBad,
       {"prompt", "64 tokens", "at most 63", "context of 64"}},
      {"prompt over the window, to be cached only",
       [](auto& s) {
         s.mutable_prompt()->set_text(std::string(kContext + 1, 'a'));
         s.set_max_output_tokens(0);
       },
       kBad,
       {"prompt", "65 tokens", "max_output_tokens 0", "context of 64"}},
      {"prompt and output over the window",
       [](auto& s) { s.set_max_output_tokens(kContext); },
       kBad,
       {"prompt", "max_output_tokens 64", "context of 64"}},
      {"negative output",
       [](auto& s) { s.set_max_output_tokens(-1); },
       kBad,
       {"max_output_tokens", "-1", "0"}},
      {"unknown model",
       [](auto& s) { s.set_model("other"); },
       absl::StatusCode::kNotFound,
       {"model", "other", "bytes"}},
  };
}

Refusal Sampling(const char* name, std::function<void(wire::SamplingOptions&)> spoil,
                 std::vector<const char*> words) {
  return {name, [spoil](GenerationSpec& s) { spoil(*s.mutable_sampling()); },
          absl::StatusCode::kInvalidArgument, std::move(words)};
}

std::vector<Refusal> SamplingRefusals() {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return {
      Sampling("temperature NaN", [](auto& s) { s.set_temperature(kNan); },
               {"sampling.temperature", "nan", "0 to 100"}),
      Sampling("temperature infinite", [](auto& s) { s.set_temperature(kInfinity); },
               {"sampling.temperature", "inf"}),
      Sampling("temperature below", [](auto& s) { s.set_temperature(-0.5f); },
               {"sampling.temperature", "-0.5"}),
      Sampling("top_k below", [](auto& s) { s.set_top_k(-1); }, {"sampling.top_k", "-1"}),
      Sampling("top_k above", [](auto& s) { s.set_top_k(258); }, {"sampling.top_k", "258", "257"}),
      Sampling("top_p 0", [](auto& s) { s.set_top_p(0); }, {"sampling.top_p"}),
      Sampling("top_p NaN", [](auto& s) { s.set_top_p(kNan); }, {"sampling.top_p", "nan"}),
      Sampling("top_p above", [](auto& s) { s.set_top_p(1.5f); }, {"sampling.top_p", "1.5"}),
      Sampling("min_p above", [](auto& s) { s.set_min_p(2); }, {"sampling.min_p", "2", "0 to 1"}),
      Sampling("repetition 0", [](auto& s) { s.set_repetition_penalty(0); },
               {"sampling.repetition_penalty"}),
      Sampling("repetition above", [](auto& s) { s.set_repetition_penalty(11); },
               {"sampling.repetition_penalty", "11", "10"}),
      Sampling("presence above", [](auto& s) { s.set_presence_penalty(101); },
               {"sampling.presence_penalty", "101", "100"}),
      Sampling("frequency below", [](auto& s) { s.set_frequency_penalty(-101); },
               {"sampling.frequency_penalty", "-101", "-100"}),
  };
}

std::vector<Refusal> OtherRefusals() {
  constexpr auto kBad = absl::StatusCode::kInvalidArgument;
  constexpr auto kLater = absl::StatusCode::kUnimplemented;
  return {
      {"logprobs", [](auto& s) { s.set_logprobs(1); }, kLater, {"logprobs"}},
      {"n", [](auto& s) { s.set_n(2); }, kLater, {"n:"}},
      {"priority", [](auto& s) { s.set_priority(-1); }, kLater, {"priority"}},
      {"truncation", [](auto& s) { s.set_truncation("left"); }, kLater, {"truncation"}},
      {"17 stop sequences",
       [](auto& s) {
         for (int i = 0; i < 17; ++i) s.add_stop_sequences("x");
       },
       kBad,
       {"stop_sequences", "17", "16"}},
      {"empty stop sequence", [](auto& s) { s.add_stop_sequences(""); }, kBad, {"stop_sequences"}},
      {"long stop sequence",
       [](auto& s) { s.add_stop_sequences(std::string(257, 'x')); },
       kBad,
       {"stop_sequences", "257", "256"}},
      {"65 stop ids",
       [](auto& s) {
         for (int i = 0; i < 65; ++i) s.add_stop_token_ids(7);
       },
       kBad,
       {"stop_token_ids", "65", "64"}},
      {"stop id past the vocabulary",
       [](auto& s) { s.add_stop_token_ids(257); },
       kBad,
       {"stop_token_ids", "257", "256"}},
      {"unknown policy",
       [](auto& s) { s.mutable_cache()->set_policy(static_cast<wire::CachePolicy>(77)); },
       kBad,
       {"cache.policy", "77"}},
      {"unknown mode",
       [](auto& s) { s.mutable_cache()->set_retrieval_mode(static_cast<wire::RetrievalMode>(-3)); },
       kBad,
       {"cache.retrieval_mode", "-3"}},
      {"negative minimum",
       [](auto& s) { s.mutable_cache()->set_minimum_reuse_token_count(-1); },
       kBad,
       {"cache.minimum_reuse_token_count", "-1"}},
  };
}

Refusal Speculation(const char* name, std::function<void(wire::SpeculationOptions&)> spoil,
                    std::vector<const char*> words) {
  return {name, [spoil](GenerationSpec& s) { spoil(*s.mutable_speculation()); },
          absl::StatusCode::kInvalidArgument, std::move(words)};
}

std::vector<Refusal> SpeculationRefusals() {
  return {
      Speculation("unknown mode",
                  [](auto& s) { s.set_mode(static_cast<wire::SpeculationMode>(9)); },
                  {"speculation.mode", "9"}),
      Speculation("no draft", [](auto& s) { s.set_max_draft_tokens(0); },
                  {"speculation.max_draft_tokens", "0, expected 1 to 256"}),
      Speculation("draft past the limit", [](auto& s) { s.set_max_draft_tokens(257); },
                  {"speculation.max_draft_tokens", "257", "1 to 256"}),
      Speculation("n-gram of nothing", [](auto& s) { s.set_min_ngram(0); },
                  {"speculation.min_ngram", "0, expected 1 to 4"}),
      Speculation("n-gram past the limit", [](auto& s) { s.set_max_ngram(17); },
                  {"speculation.max_ngram", "17", "1 to 16"}),
      Speculation("least past the limit", [](auto& s) { s.set_min_ngram(17); },
                  {"speculation.min_ngram", "17", "1 to 16"}),
      Speculation("least above most",
                  [](auto& s) {
                    s.set_min_ngram(4);
                    s.set_max_ngram(3);
                  },
                  {"speculation.min_ngram", "4, expected 1 to 3"}),
  };
}

TEST_F(RequestChecksTest, BadFieldsAreRefusedNamingFieldValueAndLimit) {
  for (const auto& table :
       {PromptRefusals(), SamplingRefusals(), OtherRefusals(), SpeculationRefusals()}) {
    for (const Refusal& refusal : table) {
      SCOPED_TRACE(refusal.name);
      GenerationSpec spec = TextSpec("hello");
      ASSERT_TRUE(CheckSpec(spec, model_.facts).ok());
      refusal.spoil(spec);
      const auto request = CheckSpec(spec, model_.facts);
      EXPECT_EQ(request.status().code(), refusal.code) << request.status();
      for (const char* word : refusal.words) {
        EXPECT_TRUE(absl::StrContains(request.status().message(), word))
            << request.status() << " lacks " << word;
      }
    }
  }
}

TEST_F(RequestChecksTest, LimitsThemselvesAreAccepted) {
  GenerationSpec spec = TextSpec("hello");
  auto& sampling = *spec.mutable_sampling();
  sampling.set_temperature(100);
  sampling.set_top_k(model_.facts.vocabulary_size);
  sampling.set_top_p(1);
  sampling.set_min_p(1);
  sampling.set_repetition_penalty(10);
  sampling.set_presence_penalty(-100);
  sampling.set_frequency_penalty(100);
  spec.set_n(1);
  spec.set_model("bytes");
  spec.set_max_output_tokens(kContext - 5);
  for (int i = 0; i < 16; ++i) spec.add_stop_sequences(std::string(256, 'x'));
  for (int i = 0; i < 64; ++i) spec.add_stop_token_ids(i);
  const auto request = CheckSpec(spec, model_.facts);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->sampling.top_k, model_.facts.vocabulary_size);
  EXPECT_EQ(request->stop_sequences.size(), 16u);
  EXPECT_GE(request->stop_ids.size(), 64u);
}

TEST_F(RequestChecksTest, AbsentFieldsTakeTheDocumentedDefaults) {
  const auto request = CheckSpec(TextSpec("hello"), model_.facts);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->prompt, (std::vector<TokenId>{'h', 'e', 'l', 'l', 'o'}));
  EXPECT_EQ(request->prompt_text, "hello");
  EXPECT_EQ(request->max_output_tokens, 16);
  EXPECT_EQ(request->sampling.temperature, 0.0f);
  EXPECT_EQ(request->sampling.top_p, 1.0f);
  EXPECT_EQ(request->sampling.repetition_penalty, 1.0f);
  EXPECT_EQ(request->cache_policy, CachePolicy::kUse);
  EXPECT_FALSE(request->retrieval_mode.has_value());
  EXPECT_FALSE(request->ignore_eos);
  EXPECT_FALSE(request->speculation.has_value());
}

TEST_F(RequestChecksTest, SpeculationIsOnWhereTheRequestOrElseTheServerSaysSo) {
  for (const bool server : {false, true}) {
    model_.facts.speculates = server;
    for (const auto& [mode, on] : {std::pair{wire::SPECULATION_MODE_UNSPECIFIED, server},
                                   {wire::SPECULATION_MODE_OFF, false},
                                   {wire::SPECULATION_MODE_PROMPT_LOOKUP, true}}) {
      GenerationSpec spec = TextSpec("hello");
      spec.mutable_speculation()->set_mode(mode);
      EXPECT_EQ(CheckSpec(spec, model_.facts)->speculation.has_value(), on)
          << server << wire::SpeculationMode_Name(mode);
    }
  }
}

TEST_F(RequestChecksTest, SpeculationDefaultsFollowTheLimitAndEachOther) {
  struct Case {
    int32_t limit;
    std::optional<int32_t> max_draft_tokens, min_ngram, max_ngram;
    PromptLookupOptions expected;
  };
  for (const Case& c : {Case{256, {}, {}, {}, {2, 4, 8}}, Case{5, {}, {}, {}, {2, 4, 5}},
                        Case{16, 16, {}, {}, {2, 4, 16}}, Case{16, 1, 1, 1, {1, 1, 1}},
                        Case{16, {}, 6, {}, {6, 6, 8}}, Case{16, {}, {}, 1, {1, 1, 8}},
                        Case{16, {}, 16, 16, {16, 16, 8}}}) {
    model_.facts.max_draft_tokens = c.limit;
    GenerationSpec spec = TextSpec("hello");
    auto& speculation = *spec.mutable_speculation();
    speculation.set_mode(wire::SPECULATION_MODE_PROMPT_LOOKUP);
    if (c.max_draft_tokens) speculation.set_max_draft_tokens(*c.max_draft_tokens);
    if (c.min_ngram) speculation.set_min_ngram(*c.min_ngram);
    if (c.max_ngram) speculation.set_max_ngram(*c.max_ngram);
    const auto request = CheckSpec(spec, model_.facts);
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_EQ(request->speculation->max_draft_tokens, c.expected.max_draft_tokens);
    EXPECT_EQ(request->speculation->min_ngram, c.expected.min_ngram);
    EXPECT_EQ(request->speculation->max_ngram, c.expected.max_ngram);
  }
}

TEST_F(RequestChecksTest, DefaultOutputShrinksToWhatTheContextLeaves) {
  struct Case {
    int32_t prompt_tokens, asked;  // asked < 0: nothing
    int32_t max_output_tokens;
    bool ends_at_context;
  };
  for (const Case& c : {Case{kContext - 3, -1, 3, true},
                        {kContext - 1, -1, 1, true},
                        {kContext - 16, -1, 16, false},
                        {kContext - 3, 3, 3, false},
                        {kContext, 0, 0, false}}) {
    GenerationSpec spec = TextSpec(std::string(c.prompt_tokens, 'a'));
    if (c.asked >= 0) spec.set_max_output_tokens(c.asked);
    const auto request = CheckSpec(spec, model_.facts);
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_EQ(request->max_output_tokens, c.max_output_tokens) << c.prompt_tokens;
    EXPECT_EQ(request->ends_at_context, c.ends_at_context) << c.prompt_tokens;
  }
}

TEST_F(RequestChecksTest, ServerWhoseDefaultIsNoOutputCachesAPromptThatFillsTheContext) {
  model_.facts.default_max_output_tokens = 0;
  const auto request = CheckSpec(TextSpec(std::string(kContext, 'a')), model_.facts);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->max_output_tokens, 0);
}

TEST_F(RequestChecksTest, SeedIsKeptAndDrawnAnewWhenAbsent) {
  GenerationSpec spec = TextSpec("hello");
  const auto first = CheckSpec(spec, model_.facts);
  const auto second = CheckSpec(spec, model_.facts);
  EXPECT_NE(first->sampling.seed, second->sampling.seed);
  spec.mutable_sampling()->set_seed(-7);
  EXPECT_EQ(static_cast<int64_t>(CheckSpec(spec, model_.facts)->sampling.seed), -7);
}

TEST_F(RequestChecksTest, PoliciesAndModesMapByName) {
  const std::vector<std::pair<wire::CachePolicy, CachePolicy>> policies = {
      {wire::CACHE_POLICY_UNSPECIFIED, CachePolicy::kUse},
      {wire::CACHE_POLICY_USE, CachePolicy::kUse},
      {wire::CACHE_POLICY_FORCE, CachePolicy::kForce},
      {wire::CACHE_POLICY_BYPASS, CachePolicy::kBypass},
      {wire::CACHE_POLICY_READ_ONLY, CachePolicy::kReadOnly}};
  GenerationSpec spec = TextSpec("hello");
  for (const auto& [from, to] : policies) {
    spec.mutable_cache()->set_policy(from);
    EXPECT_EQ(CheckSpec(spec, model_.facts)->cache_policy, to) << wire::CachePolicy_Name(from);
  }
  const std::vector<std::pair<wire::RetrievalMode, RetrievalMode>> modes = {
      {wire::RETRIEVAL_MODE_PREFIX, RetrievalMode::kPrefix},
      {wire::RETRIEVAL_MODE_SEMANTIC, RetrievalMode::kSemantic},
      {wire::RETRIEVAL_MODE_HYBRID, RetrievalMode::kHybrid}};
  for (const auto& [from, to] : modes) {
    spec.mutable_cache()->set_retrieval_mode(from);
    EXPECT_EQ(CheckSpec(spec, model_.facts)->retrieval_mode, to) << wire::RetrievalMode_Name(from);
  }
}

TEST_F(RequestChecksTest, TheServersCachePolicyIsOfRequestsThatSetNone) {
  model_.facts.cache_policy = CachePolicy::kReadOnly;
  model_.facts.minimum_reuse_tokens = 128;
  wire::GenerationSpec spec = TextSpec("hello");
  EXPECT_EQ(CheckSpec(spec, model_.facts)->cache_policy, CachePolicy::kReadOnly);
  EXPECT_EQ(CheckSpec(spec, model_.facts)->minimum_reuse_tokens, 128);
  spec.mutable_cache()->set_policy(wire::CACHE_POLICY_USE);
  spec.mutable_cache()->set_minimum_reuse_token_count(1);
  EXPECT_EQ(CheckSpec(spec, model_.facts)->cache_policy, CachePolicy::kUse);
  EXPECT_EQ(CheckSpec(spec, model_.facts)->minimum_reuse_tokens, 1);
}

TEST_F(RequestChecksTest, ConversationIsRenderedByTheTemplate) {
  wire::Prompt prompt;
  auto& messages = *prompt.mutable_conversation()->mutable_messages();
  for (const auto& [role, text] :
       std::vector<std::pair<wire::ChatRole, std::string>>{{wire::CHAT_ROLE_USER, "a"},
                                                           {wire::CHAT_ROLE_ASSISTANT, "b"},
                                                           {wire::CHAT_ROLE_USER, "<|eos|>"}}) {
    auto& message = *messages.Add();
    message.set_role(role);
    message.set_content(text);
  }
  const auto tokenized = Tokenize(prompt, model_.facts);
  ASSERT_TRUE(tokenized.ok()) << tokenized.status();
  // Text that spells the special token stays text: only the template makes id 256.
  EXPECT_EQ(tokenized->ids,
            (std::vector<TokenId>{'a', 256, 'b', 256, '<', '|', 'e', 'o', 's', '|', '>', 256}));
}

TEST_F(RequestChecksTest, TokenIdsKeepTheirTextForTheEmbedding) {
  wire::Prompt prompt;
  for (const int32_t id : {'h', 'i'}) prompt.mutable_token_ids()->add_ids(id);
  const auto tokenized = Tokenize(prompt, model_.facts);
  ASSERT_TRUE(tokenized.ok()) << tokenized.status();
  EXPECT_EQ(tokenized->text, "hi");
}

TEST_F(RequestChecksTest, RequestIdsThatCannotBeSentBackAreNotUsable) {
  EXPECT_TRUE(IsUsableRequestId("a"));
  EXPECT_TRUE(IsUsableRequestId(std::string(128, 'x')));
  EXPECT_TRUE(IsUsableRequestId("8f0e-\"quoted\"/~"));
  for (const std::string& id :
       {std::string(), std::string(129, 'x'), std::string("a b"), std::string("a\nb"),
        std::string("a\0b", 3), std::string("\x7f"), std::string("\xC3\xA9")}) {
    EXPECT_FALSE(IsUsableRequestId(id)) << id;
  }
}

TEST(CheckFactsTest, TokenizerThatEndsTextWithAnIdTheModelLacksIsRefused) {
  ByteModel model(64);
  EXPECT_TRUE(CheckFacts(model.facts).ok());
  model.facts.vocabulary_size = *model.tokenizer->eos_id();
  const absl::Status refused = CheckFacts(model.facts);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused.message(), "the tokenizer's eos token is 256, the model has 256 tokens");
}

}  // namespace
}  // namespace reprise::server
