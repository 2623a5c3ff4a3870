// The prompts of the paper's experiment (arXiv 2512.11851): some are cached, others begin like
// one of them.
//
// Units   tokens of the model at hand.
// Errors  as the client's calls.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "client/paper/prompt_calls.h"

namespace reprise::client {

struct PromptTexts {
  std::vector<std::string> cached, tests;
};

struct PaperPrompt {
  std::string set;               // in the records
  std::string label;             // the text, or what it is made of
  inference::v1::Prompt prompt;  // as it is asked
  Ids ids;
  int source = -1;        // of the cached prompts, the one it shares most tokens with; -1: none
  int common_tokens = 0;  // with it
};

struct PaperSet {
  std::vector<PaperPrompt> cached, tests;
};

// `tests` prompts of the paper's shape, up to 5000, five of them for each cached one: a
// question, and the same with a sentence more. The same for the same seed.
PromptTexts GenerateTexts(uint32_t seed, int tests);

// Fills in `source` and `common_tokens` of the tests.
void PairWithCached(PaperSet& set);

absl::StatusOr<PaperSet> TextSet(Client& client, const std::string& name, const PromptTexts& texts);

// Adds tests that begin like none of the cached prompts, or hardly.
absl::Status AddTests(Client& client, const std::string& name,
                      const std::vector<std::string>& texts, PaperSet& set);

// Prompts of 16 to 512 cached tokens and 32 more, as far as a context of `context_length`
// holds them and `output_tokens`.
absl::StatusOr<PaperSet> DepthSet(Client& client, int context_length, int output_tokens);

}  // namespace reprise::client
