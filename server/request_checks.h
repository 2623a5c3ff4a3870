// Checks of requests and their conversion to what the engine takes. Errors name
// field, value and limit.
//
// Threading  pure functions over immutable models.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "core/engine/request.h"
#include "core/text/chat_template.h"
#include "core/text/tokenizer.h"
#include "reprise/inference/v1/generation.pb.h"

namespace reprise::server {

// What requests are checked against; outlived by nothing it points to.
struct ModelFacts {
  std::string name;
  std::string architecture;
  std::string weight_dtype;
  std::string kv_dtype;
  std::string numerics_id;
  std::string cache_identity;
  int32_t context_length = 0;
  int32_t vocabulary_size = 0;
  int32_t default_max_output_tokens = 0;
  const Tokenizer* tokenizer = nullptr;
  const ChatTemplate* chat = nullptr;
  bool speculates = false;                               // requests that set no mode
  int32_t max_draft_tokens = 256;                        // that a request may ask for
  CachePolicy cache_policy = CachePolicy::kUse;          // of requests that set none
  int32_t minimum_reuse_tokens = 0;                      // likewise
  std::map<std::string, std::string> tenant_identities;  // where it is not cache_identity
};

// Whether model and tokenizer fit: every id that ends or begins a text must be one the
// model knows. kInvalidArgument naming the token, its id and the model's vocabulary.
absl::Status CheckFacts(const ModelFacts& facts);

struct TokenizedPrompt {
  std::vector<TokenId> ids;
  std::string text;  // what a sentence embedding is made of
};

absl::StatusOr<TokenizedPrompt> Tokenize(const inference::v1::Prompt& prompt,
                                         const ModelFacts& facts);

// Whether a caller's request id may be logged and sent back: 1 to 128 visible
// ASCII characters. gRPC ends the process on metadata that may not be sent.
bool IsUsableRequestId(absl::string_view id);

// A request without its times and its tenant.
absl::StatusOr<GenerateRequest> CheckSpec(const inference::v1::GenerationSpec& spec,
                                          const ModelFacts& facts);

}  // namespace reprise::server
