// Steps with drafts, compared with plain decoding bit for bit: tokens, logits and KV.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/fakes/random_model.h"
#include "tests/fakes/test_runner.h"

namespace reprise {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

constexpr int kPrompt = 37;
constexpr int kOutput = 90;
constexpr int kBlocks = (kPrompt + kOutput + kBlockTokens - 1) / kBlockTokens;
constexpr int32_t kVocabulary = 331;

struct Case {
  const char* name;
  WeightChoice choice;
  StorageType storage;
  Dtype kv_dtype;
  Architecture architecture;
};

constexpr Case kCases[] = {
    {"Fp32", WeightChoice::kFp32, StorageType::kF32, Dtype::kFloat32, Architecture::kGpt2},
    {"Bf16", WeightChoice::kBf16, StorageType::kF32, Dtype::kBfloat16, Architecture::kLlama},
    {"Fp16", WeightChoice::kFp16, StorageType::kF32, Dtype::kFloat16, Architecture::kGpt2},
    {"Int8", WeightChoice::kInt8, StorageType::kF32, Dtype::kBfloat16, Architecture::kLlama},
    {"Q8_0", WeightChoice::kAsStored, StorageType::kQ8_0, Dtype::kFloat16, Architecture::kGpt2},
    {"Q4_0", WeightChoice::kAsStored, StorageType::kQ4_0, Dtype::kBfloat16, Architecture::kLlama},
    {"Q4_1", WeightChoice::kAsStored, StorageType::kQ4_1, Dtype::kFloat32, Architecture::kLlama},
    {"Q4_K", WeightChoice::kAsStored, StorageType::kQ4_K, Dtype::kBfloat16, Architecture::kGpt2}};

std::vector<TokenId> Prompt(uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> ids(kPrompt);
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % kVocabulary);
  return ids;
}

// A sequence that decodes in the blocks [first_block, first_block + kBlocks) of its runner.
struct Decoder {
  Decoder(uint32_t seed, BlockId first_block, const SamplingOptions& options)
      : ids(Prompt(seed)), table(kBlocks), sampling(options) {
    std::iota(table.begin(), table.end(), first_block);
  }

  StepSequence Next(absl::Span<const TokenId> draft = {}) const {
    StepSequence s;
    s.tokens = absl::MakeConstSpan(ids).subspan(computed);
    s.start_position = computed;
    s.draft = draft;
    s.block_table = table;
    s.sample = s.want_logits = true;
    s.sampling = sampling;
    s.history.prompt = absl::MakeConstSpan(ids).subspan(0, kPrompt);
    s.history.generated = absl::MakeConstSpan(ids).subspan(kPrompt);
    return s;
  }
  void Take(absl::Span<const TokenId> accepted, TokenId token) {
    computed = static_cast<int32_t>(ids.size() + accepted.size());
    ids.insert(ids.end(), accepted.begin(), accepted.end());
    ids.push_back(token);
  }

  std::vector<TokenId> ids;  // prompt, then output
  int32_t computed = 0;
  std::vector<BlockId> table;
  SamplingOptions sampling;
};

class DraftTest : public ::testing::TestWithParam<Case> {
 protected:
  // The blocks hold rubbish, so that what must be zero shows.
  static std::unique_ptr<ModelRunner> MakeRunner(const Case& c) {
    TestRunnerOptions options;
    options.weights = c.choice;
    options.kv_dtype = c.kv_dtype;
    auto runner = MakeTestRunner(RandomModelBuilder(c.architecture, c.storage).Build(), options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    const std::vector<uint8_t> rubbish((*runner)->block_bytes(), 0x3b);
    for (BlockId block = 0; block < 2 * kBlocks; ++block) {
      EXPECT_TRUE((*runner)->WriteBlock(block, rubbish).ok());
    }
    return *std::move(runner);
  }

  static StepResult Step(ModelRunner& runner, const StepBatch& batch) {
    auto result = runner.Step(batch);
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }

  static std::vector<uint8_t> Read(const ModelRunner& runner, BlockId block) {
    std::vector<uint8_t> bytes(runner.block_bytes());
    EXPECT_TRUE(runner.ReadBlock(block, absl::MakeSpan(bytes)).ok());
    return bytes;
  }

  // A plain step; its logits.
  static std::vector<float> Advance(ModelRunner& runner, Decoder& decoder) {
    StepResult result = Step(runner, {{decoder.Next()}});
    EXPECT_EQ(result.accepted, std::vector<int32_t>{0});
    decoder.Take({}, result.tokens[0]);
    return std::move(result.logits[0]);
  }

  // What plain decoding says.
  static std::vector<TokenId> Truth(ModelRunner& runner, Decoder decoder) {
    while (decoder.ids.size() < kPrompt + kOutput) Advance(runner, decoder);
    return decoder.ids;
  }

  void Compare(const SamplingOptions& sampling);
};

// `right` ids of the truth after `size` known ones, then `wrong` ids that are not of it.
std::vector<TokenId> MakeDraft(const std::vector<TokenId>& truth, size_t size, size_t right,
                               size_t wrong) {
  right = std::min(right, truth.size() - size - 1);
  wrong = std::min(wrong, truth.size() - size - 1 - right);
  std::vector<TokenId> draft(truth.begin() + static_cast<int64_t>(size),
                             truth.begin() + static_cast<int64_t>(size + right));
  for (size_t i = 0; i < wrong; ++i) {
    draft.push_back((truth[size + right + i] + 1) % kVocabulary);
  }
  return draft;
}

// Decodes with drafts that are right, wrong and partly right, up to two blocks long, beside
// a mate with drafts of its own, and one plain step at a time; compares after each step.
void DraftTest::Compare(const SamplingOptions& sampling) {
  const auto plain = MakeRunner(GetParam()), drafting = MakeRunner(GetParam());
  const std::vector<TokenId> truth = Truth(*plain, Decoder(1, 0, sampling));
  const std::vector<TokenId> mate_truth = Truth(*plain, Decoder(2, 0, sampling));
  Decoder expected(1, 0, sampling), own(1, 0, sampling), mate(2, kBlocks, sampling);
  std::mt19937 random(5);
  while (own.ids.size() < truth.size()) {
    const size_t right = random() % 2 == 0 ? 0 : random() % 20;
    const std::vector<TokenId> draft = MakeDraft(truth, own.ids.size(), right, random() % 14);
    const bool mated = mate.ids.size() < mate_truth.size();
    std::vector<TokenId> mate_draft;
    if (mated) mate_draft = MakeDraft(mate_truth, mate.ids.size(), random() % 3, random() % 3);
    StepBatch batch;
    if (mated) batch.sequences.push_back(mate.Next(mate_draft));
    batch.sequences.push_back(own.Next(draft));
    const StepResult result = Step(*drafting, batch);
    if (mated) {
      mate.Take(absl::MakeConstSpan(mate_draft).subspan(0, result.accepted[0]), result.tokens[0]);
    }
    const int32_t accepted = result.accepted.back();
    ASSERT_EQ(accepted, std::min(right, truth.size() - own.ids.size() - 1));
    const auto touched = static_cast<int32_t>(own.ids.size() + draft.size());
    own.Take(absl::MakeConstSpan(draft).subspan(0, accepted), result.tokens.back());
    std::vector<float> logits;
    while (expected.ids.size() < own.ids.size()) logits = Advance(*plain, expected);
    ASSERT_EQ(own.ids, expected.ids);
    ASSERT_EQ(result.logits.back().size(), logits.size());
    ASSERT_EQ(std::memcmp(result.logits.back().data(), logits.data(), logits.size() * 4), 0);
    for (int32_t b = 0; b * kBlockTokens < touched; ++b) {
      const std::vector<uint8_t> bytes = Read(*drafting, own.table[b]);
      if (b * kBlockTokens < own.computed) {
        ASSERT_EQ(bytes, Read(*plain, expected.table[b])) << "block " << b;
      } else {
        ASSERT_THAT(bytes, Each(0)) << "block " << b;
      }
    }
  }
  EXPECT_EQ(own.ids, truth);
  EXPECT_TRUE(std::equal(mate.ids.begin(), mate.ids.end(), mate_truth.begin()));
}

TEST_P(DraftTest, GreedyTokensLogitsAndKvEqualThoseOfPlainDecoding) { Compare({}); }

TEST_P(DraftTest, SeededSamplingWithPenaltiesEqualsThatOfPlainDecoding) {
  SamplingOptions sampling;
  sampling.temperature = 1.5f;
  sampling.top_k = 50;
  sampling.repetition_penalty = 1.2f;
  sampling.presence_penalty = 0.3f;
  sampling.frequency_penalty = 0.4f;
  sampling.seed = 11;
  Compare(sampling);
}

INSTANTIATE_TEST_SUITE_P(All, DraftTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

using DraftCheckTest = DraftTest;

TEST_P(DraftCheckTest, DraftsThatCannotRunAreRefusedAndNothingRuns) {
  const auto runner = MakeRunner(GetParam());
  Decoder decoder(1, 0, {});
  Advance(*runner, decoder);
  const std::vector<uint8_t> before = Read(*runner, decoder.table[2]);
  const std::vector<TokenId> good = {1, 2, 3}, bad = {1, kVocabulary};
  const std::vector<TokenId> too_long(SmallModelConfig(GetParam().architecture).context_length, 1);
  struct Refusal {
    absl::Span<const TokenId> draft;
    bool sample;
    size_t blocks;
    const char* word;
  };
  for (const Refusal& r : {Refusal{bad, true, kBlocks, "token 331"},
                           Refusal{good, false, kBlocks, "a draft of 3 tokens"},
                           Refusal{good, true, 2, "the block table has 2 blocks"},
                           Refusal{too_long, true, kBlocks, "context of 256"}}) {
    StepSequence s = decoder.Next(r.draft);
    s.sample = r.sample;
    s.block_table = s.block_table.subspan(0, r.blocks);
    const absl::Status status = runner->Step({{s}}).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr(r.word));
    EXPECT_EQ(Read(*runner, decoder.table[2]), before);
  }
}

INSTANTIATE_TEST_SUITE_P(Fp32, DraftCheckTest, ::testing::Values(kCases[0]));

}  // namespace
}  // namespace reprise
