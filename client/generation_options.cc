#include "client/generation_options.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace reprise::client {
namespace {

using inference::v1::GenerationSpec;

template <typename T, typename Setter>
void SetIfPresent(const std::optional<T>& value, Setter set) {
  if (value) set(*value);
}

}  // namespace

void GenerationOptions::AddTo(CLI::App& command) {
  command.add_option("-n,--max-tokens", max_tokens,
                     "most tokens to produce (0: only prefill; default: the server's)");
  command.add_option("--temperature", temperature, "0 is greedy, the default");
  command.add_option("--top-k", top_k, "keep the likeliest k");
  command.add_option("--top-p", top_p, "keep the smallest set with this probability");
  command.add_option("--min-p", min_p, "drop tokens below this share of the likeliest");
  command.add_option("--repetition-penalty", repetition_penalty, "1 is off");
  command.add_option("--seed", seed, "drawn by the server and printed when absent");
  command.add_flag("--ignore-eos", ignore_eos, "do not stop at the model's end of text");
  command.add_option("--stop", stop, "text that ends the reply; may be repeated");
  command.add_option("--cache", cache_policy, "use, force, bypass or read_only")
      ->check(CLI::IsMember({"use", "force", "bypass", "read_only"}))
      ->capture_default_str();
  command.add_option("--retrieval", retrieval_mode, "prefix, semantic or hybrid")
      ->check(CLI::IsMember({"prefix", "semantic", "hybrid"}));
  command.add_option("--min-reuse", minimum_reuse, "reuse only from this many tokens on");
  command.add_option("--speculation", speculation, "off or prompt_lookup; default: the server's")
      ->check(CLI::IsMember({"off", "prompt_lookup"}));
  command.add_option("--max-draft-tokens", max_draft_tokens, "speculation: tokens of a draft");
  command.add_option("--min-ngram", min_ngram, "speculation: least tokens that must stand before");
  command.add_option("--max-ngram", max_ngram, "speculation: most tokens that are looked for");
}

void GenerationOptions::AddSpeculation(inference::v1::SpeculationOptions& options) const {
  inference::v1::SpeculationMode mode = inference::v1::SPECULATION_MODE_UNSPECIFIED;
  SpeculationMode_Parse(absl::StrCat("SPECULATION_MODE_", absl::AsciiStrToUpper(speculation)),
                        &mode);
  options.set_mode(mode);
  SetIfPresent(max_draft_tokens, [&](int32_t v) { options.set_max_draft_tokens(v); });
  SetIfPresent(min_ngram, [&](int32_t v) { options.set_min_ngram(v); });
  SetIfPresent(max_ngram, [&](int32_t v) { options.set_max_ngram(v); });
}

GenerationSpec GenerationOptions::ToSpec() const {
  GenerationSpec spec;
  auto& sampling = *spec.mutable_sampling();
  SetIfPresent(max_tokens, [&](int32_t v) { spec.set_max_output_tokens(v); });
  SetIfPresent(temperature, [&](float v) { sampling.set_temperature(v); });
  SetIfPresent(top_k, [&](int32_t v) { sampling.set_top_k(v); });
  SetIfPresent(top_p, [&](float v) { sampling.set_top_p(v); });
  SetIfPresent(min_p, [&](float v) { sampling.set_min_p(v); });
  SetIfPresent(repetition_penalty, [&](float v) { sampling.set_repetition_penalty(v); });
  SetIfPresent(seed, [&](int64_t v) { sampling.set_seed(v); });
  sampling.set_ignore_eos(ignore_eos);
  for (const std::string& text : stop) spec.add_stop_sequences(text);

  auto& cache = *spec.mutable_cache();
  inference::v1::CachePolicy policy = inference::v1::CACHE_POLICY_UNSPECIFIED;
  CachePolicy_Parse(absl::StrCat("CACHE_POLICY_", absl::AsciiStrToUpper(cache_policy)), &policy);
  cache.set_policy(policy);
  inference::v1::RetrievalMode mode = inference::v1::RETRIEVAL_MODE_UNSPECIFIED;
  RetrievalMode_Parse(absl::StrCat("RETRIEVAL_MODE_", absl::AsciiStrToUpper(retrieval_mode)),
                      &mode);
  cache.set_retrieval_mode(mode);
  cache.set_minimum_reuse_token_count(minimum_reuse);
  AddSpeculation(*spec.mutable_speculation());
  return spec;
}

}  // namespace reprise::client
