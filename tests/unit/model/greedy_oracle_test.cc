// Greedy continuations of SmolLM2-135M-Instruct against Hugging Face
// transformers, fp32, from the same dequantised weights.
#include <gtest/gtest.h>

#include <cstdio>
#include <numeric>

#include "core/base/json.h"
#include "core/model/cpu_runner.h"
#include "core/model/load_model.h"
#include "tests/golden/golden_file.h"

namespace reprise {
namespace {

struct Continuation {
  std::vector<TokenId> ids;  // the prompt, then what we produced
  std::vector<TokenId> expected;
  std::vector<BlockId> table;
  size_t computed = 0;  // ids whose KV is there
};

std::vector<TokenId> ReadIds(const JsonValue& record, const char* key) {
  const auto list = record.Get(key);
  EXPECT_TRUE(list.ok()) << list.status();
  std::vector<TokenId> ids;
  for (size_t i = 0; i < list->size(); ++i) {
    ids.push_back(static_cast<TokenId>(*list->At(i)->AsInt()));
  }
  return ids;
}

std::vector<Continuation> ReadContinuations() {
  const auto json = JsonValue::Parse(ReadGoldenText("greedy/smollm2.json"));
  EXPECT_TRUE(json.ok()) << json.status();
  std::vector<Continuation> all;
  BlockId next = 0;
  for (size_t i = 0; i < json->size(); ++i) {
    Continuation c;
    c.ids = ReadIds(*json->At(i), "ids");
    c.expected = ReadIds(*json->At(i), "next");
    c.table.resize((c.ids.size() + c.expected.size()) / kBlockTokens + 1);
    std::iota(c.table.begin(), c.table.end(), next);
    next += static_cast<BlockId>(c.table.size());
    all.push_back(std::move(c));
  }
  return all;
}

// All continuations advance together, as the engine batches them.
void StepAll(ModelRunner& runner, std::vector<Continuation>& all) {
  StepBatch batch;
  for (const Continuation& c : all) {
    StepSequence s;
    s.tokens = absl::MakeConstSpan(c.ids).subspan(c.computed);
    s.start_position = static_cast<int32_t>(c.computed);
    s.block_table = c.table;
    s.sample = true;
    batch.sequences.push_back(s);
  }
  const auto result = runner.Step(batch);
  ASSERT_TRUE(result.ok()) << result.status();
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].computed = all[i].ids.size();
    all[i].ids.push_back(result->tokens[i]);
  }
}

TEST(GreedyOracleTest, SmolLm2ContinuesAsHuggingFace) {
  const auto model = LoadModel("models/SmolLM2-135M-Instruct.Q4_1.gguf");
  ASSERT_TRUE(model.ok()) << model.status() << "; docker/setup/link-models.sh links it";
  CpuRunnerOptions options;
  options.weights = WeightChoice::kFp32;
  options.kv_dtype = Dtype::kFloat32;
  auto runner = CreateCpuRunner(*model, options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  auto all = ReadContinuations();
  ASSERT_EQ(all.size(), 20u);
  const size_t steps = all[0].expected.size();
  for (size_t step = 0; step < steps; ++step) StepAll(**runner, all);
  size_t differences = 0;
  for (const Continuation& c : all) {
    const std::vector<TokenId> ours(c.ids.end() - static_cast<ptrdiff_t>(steps), c.ids.end());
    EXPECT_EQ(ours, c.expected);
    for (size_t i = 0; i < steps; ++i) differences += ours[i] != c.expected[i];
  }
  std::printf("oracle greedy prompts=%zu tokens=%zu differences=%zu\n", all.size(),
              all.size() * steps, differences);
}

}  // namespace
}  // namespace reprise
