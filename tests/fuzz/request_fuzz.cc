// Serialised requests through the checks in front of the engine.
#include <cmath>

#include "server/request_checks.h"
#include "tests/fakes/byte_model.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

using inference::v1::GenerationSpec;

constexpr int32_t kContext = 512;

void RequireUsable(const GenerateRequest& request, int32_t vocabulary) {
  const auto in_vocabulary = [&](TokenId id) { return id >= 0 && id < vocabulary; };
  Require(!request.prompt.empty() && request.prompt.size() <= kContext,
          "a prompt fits the context");
  for (const TokenId id : request.prompt) Require(in_vocabulary(id), "prompt ids exist");
  for (const TokenId id : request.stop_ids) Require(in_vocabulary(id), "stop ids exist");
  Require(request.max_output_tokens >= 0, "there is a number of output tokens");
  Require(!request.speculation || CheckPromptLookup(*request.speculation).ok(),
          "speculation is in range");
  const SamplingOptions& s = request.sampling;
  for (const float value : {s.temperature, s.top_p, s.min_p, s.repetition_penalty,
                            s.presence_penalty, s.frequency_penalty}) {
    Require(std::isfinite(value), "sampling options are numbers");
  }
  Require(s.temperature >= 0 && s.top_p > 0 && s.repetition_penalty > 0 && s.top_k >= 0,
          "sampling options are in range");
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  GenerationSpec text, ids, chat;
  text.mutable_prompt()->set_text("Hello \xE2\x82\xAC");
  text.mutable_sampling()->set_temperature(0.7f);
  text.mutable_sampling()->set_top_p(0.9f);
  text.mutable_sampling()->set_min_p(0.1f);
  text.mutable_sampling()->set_top_k(40);
  text.mutable_sampling()->set_repetition_penalty(1.1f);
  text.mutable_sampling()->set_seed(-1);
  text.add_stop_sequences("\n\n");
  text.set_max_output_tokens(8);
  for (const int id : {1, 2, 256}) ids.mutable_prompt()->mutable_token_ids()->add_ids(id);
  ids.add_stop_token_ids(10);
  ids.mutable_cache()->set_minimum_reuse_token_count(5);
  ids.mutable_cache()->set_policy(inference::v1::CachePolicy(2));
  ids.set_model("bytes");
  ids.mutable_speculation()->set_mode(inference::v1::SpeculationMode(2));
  ids.mutable_speculation()->set_max_ngram(3);
  for (const int role : {1, 2, 3, 2}) {
    auto* message = chat.mutable_prompt()->mutable_conversation()->add_messages();
    message->set_role(inference::v1::ChatRole(role));
    message->set_content("hi");
  }
  return {text.SerializeAsString(), ids.SerializeAsString(), chat.SerializeAsString()};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  static const server::ByteModel model(fuzz::kContext);
  (void)server::IsUsableRequestId(fuzz::Text(data, size));
  fuzz::GenerationSpec spec;
  if (!spec.ParseFromArray(data, static_cast<int>(size))) return 0;
  const auto request = server::CheckSpec(spec, model.facts);
  if (request.ok()) fuzz::RequireUsable(*request, model.facts.vocabulary_size);
  return 0;
}
