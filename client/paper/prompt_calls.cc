#include "client/paper/prompt_calls.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise::client {

using inference::v1::Generation;
using inference::v1::Prompt;

Prompt TextPrompt(const std::string& text) {
  Prompt prompt;
  prompt.set_text(text);
  return prompt;
}

Prompt IdsPrompt(const Ids& ids) {
  Prompt prompt;
  prompt.mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
  return prompt;
}

absl::StatusOr<Ids> Tokenize(Client& client, const std::string& text) {
  ASSIGN_OR_RETURN(const auto counted, client.CountTokens(TextPrompt(text)));
  return Ids(counted.token_ids().begin(), counted.token_ids().end());
}

int CommonTokens(const Ids& a, const Ids& b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  return static_cast<int>(end - a.begin());
}

std::string LongPassage(const std::string& subject, int tokens) {
  std::string passage;
  for (int i = 1; i <= tokens / 8 + 1; ++i) {
    absl::StrAppend(&passage, subject, " ", i,
                    " keeps a log of wind, rain and light, and its keeper ",
                    "writes down what changed since day ", i * 7 % 31, ". ");
  }
  return passage;
}

Ids OutputIds(const Generation& reply) {
  return Ids(reply.token_ids().begin(), reply.token_ids().end());
}

}  // namespace reprise::client
