// Measures what speculation gains: tokens per second of one stream with prompt lookup and
// without, in pairs taken in turn, and the ratio of each pair.
//
//   speculation_bench MODEL [PAIRS]
//
// MODEL is a GGUF file or a Hugging Face folder. One prompt repeats itself and is continued
// greedily, so that drafts are right; the other's continuation is sampled at temperature 1,
// which shows what drafts that miss cost.
#include <cstdlib>
#include <future>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "core/engine/engine.h"
#include "core/model/cpu_runner.h"
#include "core/model/load_model.h"
#include "core/text/load_text.h"
#include "tests/bench/floors.h"

namespace reprise {
namespace {

constexpr int32_t kTokens = 96;
constexpr char kVerse[] =
    "The wheels on the bus go round and round, round and round, round and round. "
    "The wheels on the bus go round and round, all through the town.\n";
constexpr char kProse[] = "The history of the lighthouse begins in a small village where";

template <typename T>
T Check(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << "speculation_bench: " << value.status() << std::endl;
  std::exit(1);
}

struct Workload {
  const char* name;
  std::vector<TokenId> prompt;
  float temperature;
};

struct Stream {
  double tokens_per_second = 0;  // from the first token to the last
  Usage usage;
};

Stream Run(Engine& engine, const Workload& workload, bool drafting) {
  GenerateRequest request;
  request.prompt = workload.prompt;
  request.sampling.temperature = workload.temperature;
  request.sampling.seed = 1;
  request.max_output_tokens = kTokens;
  request.ignore_eos = true;
  request.cache_policy = CachePolicy::kBypass;
  if (drafting) request.speculation = PromptLookupOptions();
  std::promise<GenerateResult> ended;
  Check(engine.Submit(request, {[](const TokenChunk&) {},
                                [&](const absl::Status&, GenerateResult result) {
                                  ended.set_value(std::move(result));
                                }}));
  const GenerateResult result = ended.get_future().get();
  return {(kTokens - 1) / absl::ToDoubleSeconds(result.timings.decode), result.usage};
}

void Measure(Engine& engine, const Workload& workload, int pairs) {
  std::vector<double> plain, drafted, ratios;
  Usage usage;
  for (int i = 0; i < pairs; ++i) {
    plain.push_back(Run(engine, workload, false).tokens_per_second);
    const Stream stream = Run(engine, workload, true);
    drafted.push_back(stream.tokens_per_second);
    ratios.push_back(drafted.back() / plain.back());
    usage = stream.usage;
  }
  std::cout << absl::StreamFormat(
      "%-10s plain %7.1f tokens/s  speculation %7.1f tokens/s  ratio %.2f  accepted %d of %d "
      "drafted, %d tokens  pairs %d\n",
      workload.name, bench::Median(plain), bench::Median(drafted), bench::Median(ratios),
      usage.accepted_tokens, usage.draft_tokens, usage.output_tokens, pairs);
}

int Main(int argc, char** argv) {
  int pairs = 7;
  const bool valid = argc == 2 || (argc == 3 && absl::SimpleAtoi(argv[2], &pairs) && pairs > 0);
  if (!valid) {
    std::cerr << "usage: speculation_bench MODEL [PAIRS]" << std::endl;
    return 2;
  }
  const LoadedText text = Check(LoadText(argv[1]));
  const SystemClock clock;
  Metrics metrics;
  EngineParts parts;
  CpuRunnerOptions options;
  options.kv_pool_bytes = int64_t{128} << 20;
  parts.runner = Check(CreateCpuRunner(Check(LoadModel(argv[1])), options));
  parts.tokenizer = text.tokenizer.get();
  parts.metrics = &metrics;
  parts.clock = &clock;
  const auto engine = Check(Engine::Create({}, std::move(parts)));
  const std::string verse = kVerse;
  Measure(*engine, {"repeating", Check(text.tokenizer->Encode(verse + verse)), 0.0f}, pairs);
  Measure(*engine, {"sampled", Check(text.tokenizer->Encode(kProse)), 1.0f}, pairs);
  return 0;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) { return reprise::Main(argc, argv); }
