// Recorded traffic for the load test, in every format.
#include "client/load/conversation.h"
#include "client/load/trace_reader.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {

std::vector<std::string> FuzzSeeds() {
  std::vector<std::string> seeds;
  int format = 0;
  for (const char* file :
       {"mooncake.jsonl", "azure.csv", "burstgpt.csv", "sharegpt.json", "messages.jsonl"}) {
    const std::string text = ReadSeed(std::string("tests/data/traces/") + file);
    std::string seed(1, static_cast<char>(format++));
    seed.append(text, 0, 1500);
    seeds.push_back(seed);
    seed.append("\n[{\"role\":\"user\",\"content\":\"\xC3\xA9\"}]\n");
    seeds.push_back(seed);
  }
  return seeds;
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  using namespace reprise::client::load;
  if (size == 0) return 0;
  constexpr int32_t kWindow = 256;
  TraceOptions options;
  options.format = static_cast<TraceFormat>(data[0] % 5);
  options.context_length = kWindow;
  options.vocabulary_size = 100;
  options.length_scale = data[0] % 2 == 0 ? 1 : 0.01;
  const auto source = ParseTrace(fuzz::Text(data + 1, size - 1), options);
  options.refuse_malformed = true;
  const bool strict = ParseTrace(fuzz::Text(data + 1, size - 1), options).ok();
  if (!source.ok()) {
    fuzz::Require(!strict, "what is unusable when read leniently is refused when read strictly");
    return 0;
  }
  fuzz::Require(strict == ((*source)->facts().malformed_count == 0), "strict refuses malformed");
  double before = 0;
  int64_t sessions = 0;
  while (auto session = (*source)->Next()) {
    ++sessions;
    if ((*source)->facts().timed) {
      fuzz::Require(*session->start_seconds >= before, "sessions come in the order of their times");
      before = *session->start_seconds;
    }
    Conversation conversation(*std::move(session), kWindow);
    inference::v1::GenerationSpec spec;
    fuzz::Require(conversation.MakeNext(spec), "the first turn of a trace fits the window");
    const int tokens = spec.prompt().token_ids().ids_size();
    fuzz::Require(tokens + spec.max_output_tokens() <= kWindow, "prompt and reply fit");
  }
  fuzz::Require(sessions == (*source)->facts().sessions, "every session is given");
  return 0;
}
