// ExplainPrompt over the ways in which a prompt fails to begin like the cached one: SmolLM2's
// tokenizer and chat format, the sentence encoder, FAISS, the engine and the handlers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/model/sentence_encoder.h"
#include "core/similarity/faiss_index.h"
#include "core/store/memory_store.h"
#include "core/text/load_text.h"
#include "core/text/wordpiece_tokenizer.h"
#include "server/generation_handlers.h"
#include "tests/fakes/scripted_runner.h"

namespace reprise::server {
namespace {

namespace wire = inference::v1;

constexpr char kModel[] = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr char kEncoder[] = "models/all-minilm-l6-v2";

template <typename T>
T Require(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(std::string(value.status().message()));
  return *std::move(value);
}

// A conversation of two turns, told apart from the others by what it is about.
struct Topic {
  const char *role, *question, *answer, *follow_up;
};

constexpr Topic kTopics[] = {
    {"astronomer", "How far away is the Moon?", "About 384,000 km.", "And the Sun?"},
    {"cook", "How long do I boil rice?", "Twelve minutes.", "Do I salt the water?"},
    {"gardener", "When do I plant tulips?", "In autumn.", "How deep do the bulbs go?"},
    {"lawyer", "What is a tort?", "A civil wrong.", "Is slander one?"},
    {"doctor", "Why do I sneeze in spring?", "Pollen.", "Which pills help?"},
    {"sailor", "What is a sheet on a boat?", "A rope.", "What does a halyard do?"},
    {"banker", "What is compound interest?", "Interest on interest.", "How often is it added?"},
    {"pianist", "What does andante mean?", "At a walking pace.", "Is allegro faster?"},
    {"geologist", "What is basalt?", "Volcanic rock.", "Where is granite from?"},
    {"historian", "When did Rome fall?", "In 476.", "Who was emperor then?"},
    {"plumber", "Why does my tap drip?", "The washer is worn.", "Can I replace it myself?"},
    {"chemist", "What is rust?", "Iron oxide.", "Does copper rust?"},
    {"pilot", "What is stall speed?", "The least that keeps you up.", "Does weight change it?"},
    {"baker", "Why does dough rise?", "Yeast makes gas.", "Does cold slow it down?"},
    {"librarian", "Who wrote Middlemarch?", "George Eliot.", "Was that her real name?"},
    {"mechanic", "What does a spark plug do?", "It lights the fuel.", "How often is it changed?"},
    {"beekeeper", "How many bees live in a hive?", "Up to sixty thousand.", "Do they sleep?"},
    {"optician", "What is astigmatism?", "A curved cornea.", "Do contact lenses fix it?"},
    {"carpenter", "Which wood is hardest?", "Lignum vitae.", "Is oak easy to carve?"},
    {"programmer", "What is a mutex?", "A lock.", "What is a deadlock?"},
    {"skier", "How do I wax skis?", "With a warm iron.", "Which wax for wet snow?"},
    {"linguist", "What is a phoneme?", "A unit of sound.", "How many has English?"},
};

void AddMessage(wire::Prompt& prompt, wire::ChatRole role, const std::string& content) {
  auto& message = *prompt.mutable_conversation()->add_messages();
  message.set_role(role);
  message.set_content(content);
}

std::string System(const Topic& topic, const char* time = "2025-03-04 10:15") {
  return absl::StrCat("You are a caf\u00e9's ", topic.role, ". It is ", time,
                      ". Answer in one sentence.");
}

wire::Prompt Conversation(const Topic& topic, const std::string& system) {
  wire::Prompt prompt;
  AddMessage(prompt, wire::CHAT_ROLE_SYSTEM, system);
  AddMessage(prompt, wire::CHAT_ROLE_USER, topic.question);
  AddMessage(prompt, wire::CHAT_ROLE_ASSISTANT, topic.answer);
  AddMessage(prompt, wire::CHAT_ROLE_USER, topic.follow_up);
  return prompt;
}

wire::Prompt Base(const Topic& topic) { return Conversation(topic, System(topic)); }

wire::Prompt OfIds(const std::vector<TokenId>& ids) {
  wire::Prompt prompt;
  prompt.mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
  return prompt;
}

// What a class of perturbation makes of a topic's conversation.
struct Perturbation {
  const char* name;
  std::function<wire::Prompt(const Topic&, const ModelFacts&)> perturb;
  // What of the cached prompt's text is changed; empty where that depends on the topic.
  const char* changes;
  MissReason miss = MissReason::kNone;  // none: what comes before is reused
};

wire::Prompt WithSystem(const Topic& topic, const char* from, const char* to) {
  return Conversation(topic, absl::StrReplaceAll(System(topic), {{from, to}}));
}

const std::vector<Perturbation>& Perturbations() {
  static const auto* const kAll = new std::vector<Perturbation>{
      {"timestamp",
       [](const Topic& t, const ModelFacts&) {
         return Conversation(t, System(t, "2025-03-04 10:16"));
       },
       "5. Answer"},
      {"space",
       [](const Topic& t, const ModelFacts&) { return WithSystem(t, "in one", "in  one"); },
       " one sentence"},
      // The chat format wants system, user, assistant: what changes places is who said what.
      {"role order",
       [](const Topic& t, const ModelFacts&) {
         return Conversation({t.role, t.answer, t.question, t.follow_up}, System(t));
       },
       ""},
      {"bos",
       [](const Topic& t, const ModelFacts& facts) {
         std::vector<TokenId> ids = Require(Tokenize(Base(t), facts)).ids;
         ids.insert(ids.begin(), *facts.tokenizer->SpecialToken("<|endoftext|>"));
         return OfIds(ids);
       },
       "<|im_start|>", MissReason::kDiverges},
      {"template",
       [](const Topic& t, const ModelFacts&) {
         wire::Prompt prompt;
         prompt.set_text(absl::StrCat("System: ", System(t), "\nUser: ", t.question,
                                      "\nAssistant: ", t.answer, "\nUser: ", t.follow_up));
         return prompt;
       },
       "<|im_start|>", MissReason::kDiverges},
      {"casing",
       [](const Topic& t, const ModelFacts&) { return WithSystem(t, "Answer in", "answer in"); },
       " Answer in"},
      {"unicode form",
       [](const Topic& t, const ModelFacts&) { return WithSystem(t, "\u00e9", "e\u0301"); },
       "\u00e9's "},
      {"trailing newline",
       [](const Topic& t, const ModelFacts& facts) {
         wire::Prompt prompt;
         const std::vector<TokenId> base = Require(Tokenize(Base(t), facts)).ids;
         std::vector<TokenId> ids = base;
         const auto newline = Require(facts.tokenizer->Encode("\n"));
         ids.insert(ids.end(), newline.begin(), newline.end());
         return OfIds(ids);
       },
       ""},
      {"system prompt",
       [](const Topic& t, const ModelFacts&) {
         return WithSystem(t, "You are a", "You are only a");
       },
       " a caf"},
      {"truncated history",
       [](const Topic& t, const ModelFacts&) {
         wire::Prompt prompt;
         AddMessage(prompt, wire::CHAT_ROLE_SYSTEM, System(t));
         AddMessage(prompt, wire::CHAT_ROLE_USER, t.follow_up);
         return prompt;
       },
       ""},
  };
  return *kAll;
}

class ExplainTest : public testing::Test {
 protected:
  ExplainTest() {
    EngineParts parts;
    parts.runner = CreateScriptedRunner(
        {.num_blocks = 1024, .vocabulary_size = text_.tokenizer->vocabulary_size()});
    parts.store = CreateMemoryStore();
    const SentenceEncoderModel encoder = Require(LoadSentenceEncoder(kEncoder, 1));
    const std::shared_ptr<const WordPieceTokenizer> pieces =
        Require(WordPieceTokenizer::Load(kEncoder));
    parts.embed = [encoder, pieces](const std::string& text) {
      return encoder.encode(pieces->Encode(text, static_cast<size_t>(encoder.max_tokens)));
    };
    parts.vectors = CreateFaissIndex(encoder.dimensions);
    parts.tokenizer = text_.tokenizer.get();
    parts.metrics = &metrics_;
    parts.clock = &clock_;
    EngineOptions options;
    options.flush_after_idle = absl::Milliseconds(1);
    engine_ = Require(Engine::Create(options, std::move(parts)));
    facts_.vocabulary_size = text_.tokenizer->vocabulary_size();
    facts_.context_length = 2048;
    facts_.tokenizer = text_.tokenizer.get();
    facts_.chat = text_.chat.get();
    handlers_ = std::make_unique<GenerationHandlers>(facts_, engine_.get(), &clock_);
    call_.is_cancelled = [] { return false; };
  }

  void Cache(const wire::Prompt& prompt) {
    wire::GenerationSpec spec;
    *spec.mutable_prompt() = prompt;
    spec.set_max_output_tokens(0);
    wire::Generation reply;
    RequestSummary summary;
    const auto ignore = [](const wire::TokenChunk&) { return true; };
    ASSERT_TRUE(handlers_->Generate(call_, spec, ignore, reply, summary).ok());
  }

  wire::ExplainPromptResponse Explain(const wire::Prompt& prompt) {
    wire::ExplainPromptRequest request;
    *request.mutable_prompt() = prompt;
    wire::ExplainPromptResponse response;
    EXPECT_TRUE(handlers_->ExplainPrompt(call_, request, response).ok());
    return response;
  }

  std::vector<TokenId> IdsOf(const wire::Prompt& prompt) {
    return Require(Tokenize(prompt, facts_)).ids;
  }

  std::string BytesOf(absl::Span<const TokenId> ids) const {
    std::string bytes;
    for (const TokenId id : ids) {
      const absl::string_view token = facts_.tokenizer->TokenBytes(id);
      bytes.append(token.data(), token.size());
    }
    return bytes;
  }

  // Where the perturbed prompt parts from its base, as the text says it: at the token that has
  // the first byte of what was changed.
  void ExpectBreak(const Perturbation& kind, const std::vector<TokenId>& base, int32_t position) {
    if (*kind.changes == '\0') return;
    const std::string whole = BytesOf(base);
    const size_t changed = whole.find(kind.changes);
    ASSERT_NE(changed, std::string::npos);
    const size_t before = BytesOf(absl::MakeConstSpan(base).subspan(0, position)).size();
    const size_t with = BytesOf(absl::MakeConstSpan(base).subspan(0, position + 1)).size();
    EXPECT_LE(before, changed) << "a token that was changed counts as shared";
    EXPECT_GT(with, changed) << "a token that was not changed counts as different";
  }

  const LoadedText text_ = Require(LoadText(kModel));
  Metrics metrics_;
  SystemClock clock_;
  std::unique_ptr<Engine> engine_;
  ModelFacts facts_;
  std::unique_ptr<GenerationHandlers> handlers_;
  CallFacts call_;
};

TEST_F(ExplainTest, FirstDivergentTokenIsExactOnEveryKindOfPerturbation) {
  for (const Topic& topic : kTopics) Cache(Base(topic));
  ASSERT_TRUE(engine_->WaitUntilIdle(absl::Seconds(120)));
  std::map<std::string, int> exact;
  for (const Perturbation& kind : Perturbations()) {
    for (const Topic& topic : kTopics) {
      SCOPED_TRACE(absl::StrCat(kind.name, ", ", topic.role));
      const std::vector<TokenId> base = IdsOf(Base(topic));
      const wire::Prompt prompt = kind.perturb(topic, facts_);
      const std::vector<TokenId> ids = IdsOf(prompt);
      const auto at = static_cast<size_t>(
          std::mismatch(base.begin(), base.end(), ids.begin(), ids.end()).first - base.begin());
      const wire::ExplainPromptResponse got = Explain(prompt);
      const wire::Divergence& divergence = got.divergence();
      ASSERT_TRUE(got.has_divergence());
      ExpectBreak(kind, base, divergence.position());
      EXPECT_EQ(divergence.position(), static_cast<int32_t>(at));
      EXPECT_EQ(divergence.has_cached_token_id(), at < base.size());
      EXPECT_EQ(divergence.has_prompt_token_id(), at < ids.size());
      if (at < base.size()) {
        EXPECT_EQ(divergence.cached_token_id(), base[at]) << "another prompt is the nearest";
        EXPECT_FALSE(divergence.cached_token_text().empty());
      }
      if (at < ids.size()) {
        EXPECT_EQ(divergence.prompt_token_id(), ids[at]);
      }
      EXPECT_GT(got.nearest().similarity(), 0.5f);
      EXPECT_EQ(got.nearest().common_token_count(), static_cast<int32_t>(at));
      EXPECT_GE(got.ideal_token_count(),
                std::min<int32_t>(static_cast<int32_t>(at), got.prompt_token_count() - 1));
      EXPECT_EQ(int{got.miss_reason()}, static_cast<int>(kind.miss) + 1);
      exact[kind.name] += divergence.position() == static_cast<int32_t>(at) ? 1 : 0;
    }
  }
  int all = 0;
  for (const auto& [name, count] : exact) all += count;
  std::printf("explain kinds=%zu cases=%zu exact=%d\n", exact.size(),
              Perturbations().size() * std::size(kTopics), all);
  EXPECT_EQ(exact.size(), 10);
  EXPECT_EQ(all, 220);
}

TEST_F(ExplainTest, CachedPromptItselfHasNoDivergence) {
  EXPECT_EQ(Explain(Base(kTopics[0])).miss_reason(), wire::MISS_REASON_CACHE_EMPTY);
  for (const Topic& topic : {kTopics[0], kTopics[1]}) Cache(Base(topic));
  ASSERT_TRUE(engine_->WaitUntilIdle(absl::Seconds(120)));
  const wire::ExplainPromptResponse got = Explain(Base(kTopics[1]));
  EXPECT_FALSE(got.has_divergence());
  EXPECT_NEAR(got.nearest().similarity(), 1, 1e-5);
  EXPECT_EQ(got.host_token_count(), got.prompt_token_count() - 1);
  EXPECT_EQ(got.disk_token_count(), got.prompt_token_count() - 1);
  EXPECT_EQ(got.decision(), wire::REUSE_DECISION_REUSED);
  wire::Prompt one;
  one.set_text("Rome");
  EXPECT_EQ(Explain(one).miss_reason(), wire::MISS_REASON_TOO_SHORT);
}

}  // namespace
}  // namespace reprise::server
