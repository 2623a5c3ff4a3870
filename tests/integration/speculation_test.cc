// Speculation over the default model: the tokens of plain decoding, from fewer steps.
#include <gtest/gtest.h>

#include <future>

#include "core/engine/engine.h"
#include "core/model/cpu_runner.h"
#include "core/model/load_model.h"
#include "core/text/load_text.h"

namespace reprise {
namespace {

constexpr char kModel[] = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr int32_t kTokens = 64;

class SpeculationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto model = LoadModel(kModel);
    ASSERT_TRUE(model.ok()) << model.status() << "; docker/setup/link-models.sh links it";
    auto text = LoadText(kModel);
    ASSERT_TRUE(text.ok()) << text.status();
    text_ = *std::move(text);
    CpuRunnerOptions options;
    options.kv_pool_bytes = int64_t{64} << 20;
    auto runner = CreateCpuRunner(*model, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    EngineParts parts;
    parts.runner = *std::move(runner);
    parts.tokenizer = text_.tokenizer.get();
    parts.metrics = &metrics_;
    parts.clock = &clock_;
    auto engine = Engine::Create({}, std::move(parts));
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  GenerateResult Run(const std::string& prompt, const SamplingOptions& sampling, bool drafting) {
    GenerateRequest request;
    request.prompt = *text_.tokenizer->Encode(prompt);
    request.sampling = sampling;
    request.max_output_tokens = kTokens;
    request.ignore_eos = true;
    request.cache_policy = CachePolicy::kBypass;
    if (drafting) request.speculation = PromptLookupOptions();
    std::promise<GenerateResult> ended;
    const GenerationSink sink{[](const TokenChunk&) {},
                              [&](const absl::Status& status, GenerateResult result) {
                                EXPECT_TRUE(status.ok()) << status;
                                ended.set_value(std::move(result));
                              }};
    EXPECT_TRUE(engine_->Submit(request, sink).ok());
    return ended.get_future().get();
  }

  LoadedText text_;
  SystemClock clock_;
  Metrics metrics_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(SpeculationTest, SmolLm2GivesTheSameTokensAndSomeAreFromDrafts) {
  const std::string verse =
      "The wheels on the bus go round and round, round and round, round and "
      "round. The wheels on the bus go round and round, all through the town.";
  const std::string code = "a[0] = b[0] + c[0];\na[1] = b[1] + c[1];\na[2] = b[2] + c[2];\n";
  SamplingOptions sampled;
  sampled.temperature = 0.7f;
  sampled.repetition_penalty = 1.05f;
  sampled.seed = 5;
  for (const std::string& prompt : {verse + "\n" + verse, code}) {
    int32_t accepted = 0;
    for (const SamplingOptions& sampling : {SamplingOptions(), sampled}) {
      const GenerateResult plain = Run(prompt, sampling, false);
      const GenerateResult drafted = Run(prompt, sampling, true);
      EXPECT_EQ(drafted.output_ids.size(), size_t{kTokens});
      EXPECT_EQ(drafted.output_ids, plain.output_ids) << prompt;
      EXPECT_EQ(drafted.text, plain.text);
      accepted += drafted.usage.accepted_tokens;
      std::printf("speculation temperature=%.1f drafted=%d accepted=%d of %d tokens\n",
                  sampling.temperature, drafted.usage.draft_tokens, drafted.usage.accepted_tokens,
                  kTokens);
    }
    EXPECT_GT(accepted, 0) << prompt;
  }
}

}  // namespace
}  // namespace reprise
