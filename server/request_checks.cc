#include "server/request_checks.h"

#include <algorithm>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/status_map.h"

namespace reprise::server {
namespace {

using inference::v1::GenerationSpec;

constexpr int kMaxStopSequences = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr int kMaxStopTokenIds = 64;  // all are compared with every token
constexpr size_t kMaxRequestIdBytes = 128;

// Also refuses NaN, whose comparisons are all false.
template <typename Number>
absl::Status CheckRange(const char* field, Number value, Number low, Number high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return FieldViolation(field, absl::StrCat(value, ", expected ", low, " to ", high));
}

absl::Status CheckUnsupported(const GenerationSpec& spec) {
  const auto unsupported = [](const char* field) {
    return absl::UnimplementedError(absl::StrCat(field, ": not supported by this version"));
  };
  if (spec.logprobs() != 0) return unsupported("logprobs");
  if (spec.n() != 0 && spec.n() != 1) return unsupported("n");
  if (spec.priority() != 0) return unsupported("priority");
  if (!spec.truncation().empty()) return unsupported("truncation");
  return absl::OkStatus();
}

absl::StatusOr<SamplingOptions> CheckSampling(const inference::v1::SamplingOptions& s,
                                              int32_t vocabulary) {
  constexpr float kSmallest = 1e-6f;  // stands for "above 0"
  SamplingOptions options;
  if (s.has_temperature()) options.temperature = s.temperature();
  if (s.has_top_k()) options.top_k = s.top_k();
  if (s.has_top_p()) options.top_p = s.top_p();
  if (s.has_min_p()) options.min_p = s.min_p();
  if (s.has_repetition_penalty()) options.repetition_penalty = s.repetition_penalty();
  if (s.has_presence_penalty()) options.presence_penalty = s.presence_penalty();
  if (s.has_frequency_penalty()) options.frequency_penalty = s.frequency_penalty();
  RETURN_IF_ERROR(CheckRange("sampling.temperature", options.temperature, 0.0f, 100.0f));
  RETURN_IF_ERROR(CheckRange("sampling.top_k", options.top_k, 0, vocabulary));
  RETURN_IF_ERROR(CheckRange("sampling.top_p", options.top_p, kSmallest, 1.0f));
  RETURN_IF_ERROR(CheckRange("sampling.min_p", options.min_p, 0.0f, 1.0f));
  RETURN_IF_ERROR(
      CheckRange("sampling.repetition_penalty", options.repetition_penalty, kSmallest, 10.0f));
  RETURN_IF_ERROR(
      CheckRange("sampling.presence_penalty", options.presence_penalty, -100.0f, 100.0f));
  RETURN_IF_ERROR(
      CheckRange("sampling.frequency_penalty", options.frequency_penalty, -100.0f, 100.0f));
  options.seed = s.has_seed() ? static_cast<uint64_t>(s.seed()) : std::random_device{}();
  return options;
}

// Sets how many tokens may be produced; a default shrinks to what the context leaves.
absl::Status CheckOutput(const GenerationSpec& spec, const ModelFacts& facts,
                         GenerateRequest& request) {
  const auto size = static_cast<int64_t>(request.prompt.size());
  const int64_t left = facts.context_length - size;
  const int32_t wanted =
      spec.has_max_output_tokens() ? spec.max_output_tokens() : facts.default_max_output_tokens;
  request.max_output_tokens = wanted;
  if (spec.has_max_output_tokens()) {
    RETURN_IF_ERROR(CheckRange("max_output_tokens", wanted, 0, facts.context_length));
  } else if (wanted > left && left > 0) {
    request.max_output_tokens = static_cast<int32_t>(left);
    request.ends_at_context = true;
  }
  if (request.max_output_tokens <= left) return absl::OkStatus();
  if (left <= 0 && wanted > 0) {
    return FieldViolation("prompt", absl::StrCat(size, " tokens, expected at most ",
                                                 facts.context_length - 1, ": the context of ",
                                                 facts.context_length, " leaves none to produce"));
  }
  return FieldViolation("prompt", absl::StrCat(size, " tokens + max_output_tokens ", wanted,
                                               " exceed the context of ", facts.context_length));
}

absl::Status CheckStops(const GenerationSpec& spec, const ModelFacts& facts,
                        GenerateRequest& request) {
  if (spec.stop_sequences_size() > kMaxStopSequences) {
    return FieldViolation("stop_sequences", absl::StrCat(spec.stop_sequences_size(),
                                                         " texts, at most ", kMaxStopSequences));
  }
  for (const std::string& stop : spec.stop_sequences()) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return FieldViolation(
          "stop_sequences",
          absl::StrCat("a text of ", stop.size(), " bytes, expected 1 to ", kMaxStopBytes));
    }
    request.stop_sequences.push_back(stop);
  }
  if (spec.stop_token_ids_size() > kMaxStopTokenIds) {
    return FieldViolation("stop_token_ids", absl::StrCat(spec.stop_token_ids_size(),
                                                         " ids, at most ", kMaxStopTokenIds));
  }
  for (const int32_t id : spec.stop_token_ids()) {
    RETURN_IF_ERROR(CheckRange("stop_token_ids", id, 0, facts.vocabulary_size - 1));
    request.stop_ids.push_back(id);
  }
  if (!spec.sampling().ignore_eos()) {
    for (const TokenId id : facts.chat->EndOfTurnIds()) request.stop_ids.push_back(id);
  }
  return absl::OkStatus();
}

absl::Status CheckCache(const inference::v1::CacheOptions& cache, const ModelFacts& facts,
                        GenerateRequest& request) {
  if (!inference::v1::CachePolicy_IsValid(cache.policy())) {
    return FieldViolation("cache.policy", absl::StrCat("unknown value ", int{cache.policy()}));
  }
  if (!inference::v1::RetrievalMode_IsValid(cache.retrieval_mode())) {
    return FieldViolation("cache.retrieval_mode",
                          absl::StrCat("unknown value ", int{cache.retrieval_mode()}));
  }
  RETURN_IF_ERROR(
      CheckRange("cache.minimum_reuse_token_count", cache.minimum_reuse_token_count(), 0, 1 << 24));
  request.minimum_reuse_tokens = cache.minimum_reuse_token_count() > 0
                                     ? cache.minimum_reuse_token_count()
                                     : facts.minimum_reuse_tokens;
  request.cache_policy = facts.cache_policy;
  // The wire's values follow the engine's, one later for UNSPECIFIED.
  if (cache.policy() != 0) request.cache_policy = static_cast<CachePolicy>(cache.policy() - 1);
  if (cache.retrieval_mode() != 0) {
    request.retrieval_mode = static_cast<RetrievalMode>(cache.retrieval_mode() - 1);
  }
  return absl::OkStatus();
}

absl::Status CheckSpeculation(const inference::v1::SpeculationOptions& s, const ModelFacts& facts,
                              GenerateRequest& request) {
  if (!inference::v1::SpeculationMode_IsValid(s.mode())) {
    return FieldViolation("speculation.mode", absl::StrCat("unknown value ", int{s.mode()}));
  }
  PromptLookupOptions options;
  options.max_draft_tokens = s.has_max_draft_tokens()
                                 ? s.max_draft_tokens()
                                 : std::min(options.max_draft_tokens, facts.max_draft_tokens);
  if (s.has_max_ngram()) {
    options.max_ngram = s.max_ngram();
  } else if (s.has_min_ngram()) {
    options.max_ngram = std::clamp(s.min_ngram(), options.max_ngram, kMaxNgram);
  }
  options.min_ngram =
      s.has_min_ngram() ? s.min_ngram() : std::min(options.min_ngram, options.max_ngram);
  RETURN_IF_ERROR(CheckRange("speculation.max_draft_tokens", options.max_draft_tokens, 1,
                             facts.max_draft_tokens));
  RETURN_IF_ERROR(CheckRange("speculation.max_ngram", options.max_ngram, 1, kMaxNgram));
  RETURN_IF_ERROR(CheckRange("speculation.min_ngram", options.min_ngram, 1, options.max_ngram));
  const bool unset = s.mode() == inference::v1::SPECULATION_MODE_UNSPECIFIED;
  if (unset ? facts.speculates : s.mode() == inference::v1::SPECULATION_MODE_PROMPT_LOOKUP) {
    request.speculation = options;
  }
  return absl::OkStatus();
}

// Says which field a text error is about.
absl::StatusOr<std::vector<TokenId>> AtField(const char* field,
                                             absl::StatusOr<std::vector<TokenId>> ids) {
  if (!absl::IsInvalidArgument(ids.status())) return ids;
  return FieldViolation(field, ids.status().message());
}

absl::StatusOr<TokenizedPrompt> TokenizeIds(const inference::v1::TokenIds& token_ids,
                                            const ModelFacts& facts) {
  TokenizedPrompt prompt;
  for (const int32_t id : token_ids.ids()) {
    RETURN_IF_ERROR(CheckRange("prompt.token_ids", id, 0, facts.vocabulary_size - 1));
    prompt.ids.push_back(id);
    if (facts.tokenizer->IsSpecial(id)) continue;  // of the template, not of what is said
    const absl::string_view bytes = facts.tokenizer->TokenBytes(id);
    prompt.text.append(bytes.data(), bytes.size());
  }
  return prompt;
}

absl::StatusOr<TokenizedPrompt> TokenizeConversation(
    const inference::v1::Conversation& conversation, const ModelFacts& facts) {
  TokenizedPrompt prompt;
  std::vector<ChatMessage> messages;
  for (const auto& message : conversation.messages()) {
    if (message.role() < 1 || message.role() > 3) {
      return FieldViolation(
          absl::StrCat("prompt.conversation.messages[", messages.size(), "].role"),
          absl::StrCat("value ", int{message.role()}, ", expected 1 to 3"));
    }
    messages.push_back({static_cast<ChatRole>(message.role() - 1), message.content()});
    absl::StrAppend(&prompt.text, message.content(), "\n");
  }
  ASSIGN_OR_RETURN(prompt.ids, AtField("prompt.conversation", facts.chat->Render(messages)));
  return prompt;
}

}  // namespace

absl::Status CheckFacts(const ModelFacts& facts) {
  const auto check = [&](const char* name, std::optional<TokenId> id) {
    if (!id || *id < facts.vocabulary_size) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer's ", name, " token is ", *id,
                                                   ", the model has ", facts.vocabulary_size,
                                                   " tokens"));
  };
  RETURN_IF_ERROR(check("bos", facts.tokenizer->bos_id()));
  RETURN_IF_ERROR(check("eos", facts.tokenizer->eos_id()));
  for (const TokenId id : facts.chat->EndOfTurnIds()) RETURN_IF_ERROR(check("end-of-turn", id));
  return absl::OkStatus();
}

bool IsUsableRequestId(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdBytes &&
         std::all_of(id.begin(), id.end(), absl::ascii_isgraph);
}

absl::StatusOr<TokenizedPrompt> Tokenize(const inference::v1::Prompt& prompt,
                                         const ModelFacts& facts) {
  absl::StatusOr<TokenizedPrompt> result = TokenizedPrompt();
  if (prompt.has_token_ids()) {
    result = TokenizeIds(prompt.token_ids(), facts);
  } else if (prompt.has_conversation()) {
    result = TokenizeConversation(prompt.conversation(), facts);
  } else {
    result->text = prompt.text();
    ASSIGN_OR_RETURN(result->ids, AtField("prompt.text", facts.tokenizer->Encode(prompt.text())));
    if (facts.tokenizer->add_bos() && facts.tokenizer->bos_id() && !prompt.text().empty()) {
      result->ids.insert(result->ids.begin(), *facts.tokenizer->bos_id());
    }
  }
  if (!result.ok()) return result;
  if (result->ids.empty()) return FieldViolation("prompt", "empty, expected at least one token");
  return result;
}

absl::StatusOr<GenerateRequest> CheckSpec(const GenerationSpec& spec, const ModelFacts& facts) {
  if (!spec.model().empty() && spec.model() != facts.name) {
    return absl::NotFoundError(
        absl::StrCat("model: \"", spec.model(), "\", this server has \"", facts.name, "\""));
  }
  RETURN_IF_ERROR(CheckUnsupported(spec));
  GenerateRequest request;
  ASSIGN_OR_RETURN(TokenizedPrompt prompt, Tokenize(spec.prompt(), facts));
  request.prompt = std::move(prompt.ids);
  request.prompt_text = std::move(prompt.text);
  RETURN_IF_ERROR(CheckOutput(spec, facts, request));
  ASSIGN_OR_RETURN(request.sampling, CheckSampling(spec.sampling(), facts.vocabulary_size));
  request.ignore_eos = spec.sampling().ignore_eos();
  RETURN_IF_ERROR(CheckStops(spec, facts, request));
  RETURN_IF_ERROR(CheckCache(spec.cache(), facts, request));
  RETURN_IF_ERROR(CheckSpeculation(spec.speculation(), facts, request));
  return request;
}

}  // namespace reprise::server
