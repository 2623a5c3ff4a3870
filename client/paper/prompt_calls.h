// What the demo and the paper's experiment ask a server for, and how they compare its replies.
//
// Errors  as the client's calls.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace reprise::client {

using Ids = std::vector<int32_t>;

inference::v1::Prompt TextPrompt(const std::string& text);
inference::v1::Prompt IdsPrompt(const Ids& ids);

absl::StatusOr<Ids> Tokenize(Client& client, const std::string& text);

// Tokens that both begin with.
int CommonTokens(const Ids& a, const Ids& b);

// Plain prose of at least `tokens` tokens under any tokenizer: a word is one at least. Passages
// about different subjects share no beginning.
std::string LongPassage(const std::string& subject, int tokens);

Ids OutputIds(const inference::v1::Generation& reply);

}  // namespace reprise::client
