#include "client/paper/paper_prompts.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_macros.h"

namespace reprise::client {
namespace {

constexpr int kTestsPerCached = 5;
constexpr int kSuffixTokens = 32;

constexpr const char* kQuestions[] = {
    "What is $0?",
    "How does $0 work?",
    "Explain $0 in simple terms.",
    "Who discovered $0?",
    "Describe the history of $0.",
    "Why does $0 matter?",
    "Name three facts about $0.",
    "When was $0 first studied?",
    "Where would I find $0?",
    "List common mistakes about $0.",
    "Compare $0 with what came before.",
    "Give a short definition of $0.",
    "Which problems does $0 solve?",
    "Summarize what is known about $0.",
    "Can a child understand $0?",
    "Tell me a story about $0.",
    "What makes $0 difficult?",
    "How is $0 measured?",
    "Is $0 dangerous?",
    "What will $0 look like in ten years?",
};
constexpr const char* kSubjects[] = {
    "gravity",
    "a lighthouse",
    "the printing press",
    "a glacier",
    "honey",
    "an earthquake",
    "the compass",
    "a coral reef",
    "democracy",
    "inflation",
    "the violin",
    "a vaccine",
    "magnetism",
    "a tornado",
    "the alphabet",
    "a suspension bridge",
    "sleep",
    "the silk road",
    "a comet",
    "electric light",
    "a beehive",
    "the piano",
    "photosynthesis",
    "a battery",
    "map projection",
    "the stock market",
    "a volcano",
    "chess",
    "a rainforest",
    "steam power",
    "the human eye",
    "a neural network",
    "bread",
    "a submarine",
    "probability",
    "the periodic table",
    "a desert",
    "cheese",
    "radar",
    "the calendar",
    "a waterfall",
    "encryption",
    "the water wheel",
    "a diamond",
    "tea",
    "an orchestra",
    "the telescope",
    "a solar eclipse",
    "paper",
    "folk music",
};
constexpr const char* kExtensions[] = {
    "Give an example.",
    "Keep it short.",
    "Use two sentences.",
    "Mention the year as well.",
    "Explain it to a ten year old.",
    "Also say what people often get wrong.",
    "Add one surprising detail.",
    "Compare it with something from everyday life.",
    "End with a question.",
    "Name a book about it.",
    "Say which part is the hardest.",
    "Then list two sources for further reading.",
    "Also mention a nearby topic.",
    "Do not use technical words.",
    "Answer as a teacher would.",
};
constexpr const char* kPlaces[] = {"Harbour", "Mountain", "Desert", "Forest", "Island", "River"};
constexpr int kDepths[] = {16, 32, 64, 128, 256, 512};

// By the engine's own numbers, since distributions differ between libraries.
template <typename T>
void Shuffle(std::vector<T>& values, std::mt19937& random) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random() % i]);
}

PaperPrompt ByIds(const std::string& label, Ids ids) {
  PaperPrompt prompt;
  prompt.set = "depth";
  prompt.label = label;
  prompt.prompt = IdsPrompt(ids);
  prompt.ids = std::move(ids);
  return prompt;
}

absl::Status AddByText(Client& client, const std::string& name,
                       const std::vector<std::string>& texts, std::vector<PaperPrompt>& prompts) {
  for (const std::string& text : texts) {
    PaperPrompt prompt;
    prompt.set = name;
    prompt.label = text;
    prompt.prompt = TextPrompt(text);
    ASSIGN_OR_RETURN(prompt.ids, Tokenize(client, text));
    prompts.push_back(std::move(prompt));
  }
  return absl::OkStatus();
}

}  // namespace

PromptTexts GenerateTexts(uint32_t seed, int tests) {
  std::mt19937 random(seed);
  std::vector<std::string> questions;
  for (const char* question : kQuestions) {
    for (const char* subject : kSubjects) {
      questions.push_back(absl::StrReplaceAll(question, {{"$0", subject}}));
    }
  }
  Shuffle(questions, random);
  std::vector<std::string> extensions(std::begin(kExtensions), std::end(kExtensions));
  PromptTexts texts;
  for (int i = 0; i < tests; ++i) {
    const std::string& question = questions[i / kTestsPerCached];
    if (i % kTestsPerCached == 0) {
      texts.cached.push_back(question);
      Shuffle(extensions, random);
    }
    texts.tests.push_back(absl::StrCat(question, " ", extensions[i % kTestsPerCached]));
  }
  return texts;
}

void PairWithCached(PaperSet& set) {
  for (PaperPrompt& test : set.tests) {
    for (size_t i = 0; i < set.cached.size(); ++i) {
      const int common = CommonTokens(test.ids, set.cached[i].ids);
      if (common <= test.common_tokens) continue;
      test.common_tokens = common;
      test.source = static_cast<int>(i);
    }
  }
}

absl::StatusOr<PaperSet> TextSet(Client& client, const std::string& name,
                                 const PromptTexts& texts) {
  PaperSet set;
  RETURN_IF_ERROR(AddByText(client, name, texts.cached, set.cached));
  RETURN_IF_ERROR(AddTests(client, name, texts.tests, set));
  return set;
}

absl::Status AddTests(Client& client, const std::string& name,
                      const std::vector<std::string>& texts, PaperSet& set) {
  RETURN_IF_ERROR(AddByText(client, name, texts, set.tests));
  PairWithCached(set);
  return absl::OkStatus();
}

absl::StatusOr<PaperSet> DepthSet(Client& client, int context_length, int output_tokens) {
  PaperSet set;
  for (size_t i = 0; i < std::size(kDepths); ++i) {
    const int depth = kDepths[i], tokens = depth + kSuffixTokens;
    if (tokens + output_tokens > context_length) break;
    ASSIGN_OR_RETURN(Ids ids, Tokenize(client, LongPassage(kPlaces[i], tokens)));
    ids.resize(tokens);
    set.cached.push_back(
        ByIds(absl::StrCat(depth, " tokens"), Ids(ids.begin(), ids.begin() + depth)));
    set.tests.push_back(
        ByIds(absl::StrCat(depth, " + ", kSuffixTokens, " tokens"), std::move(ids)));
  }
  PairWithCached(set);
  return set;
}

}  // namespace reprise::client
