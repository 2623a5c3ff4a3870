// Errors, blocks and sampling of the CUDA runner.
#include "core/model/cuda/cuda_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/model/cuda/kernel_args.h"
#include "tests/fakes/random_model.h"

namespace reprise {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

CudaRunnerOptions SmallPool() {
  CudaRunnerOptions options;
  options.kv_pool_bytes = int64_t{8} << 20;
  return options;
}

std::unique_ptr<ModelRunner> MakeRunner() {
  auto runner = CreateCudaRunner(RandomModelBuilder(Architecture::kLlama).Build(), SmallPool());
  EXPECT_TRUE(runner.ok()) << runner.status();
  return *std::move(runner);
}

StepSequence Prompt(const std::vector<TokenId>& ids, const std::vector<BlockId>& table) {
  StepSequence s;
  s.tokens = ids;
  s.block_table = table;
  s.sample = true;
  return s;
}

const std::vector<TokenId> kIds = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21};
const std::vector<BlockId> kTable = {0, 1};

TEST(CudaRunnerTest, NumericsIdNamesArchitectureKernelsAndDtypes) {
  EXPECT_THAT(MakeRunner()->numerics_id(),
              ::testing::MatchesRegex("cuda-sm[0-9]+-code[0-9]+-v[0-9]+-wfp16-kvfp16"));
}

TEST(CudaRunnerTest, OptionsThatTheDeviceCannotMeetAreRefusedByName) {
  struct Refusal {
    CudaRunnerOptions options;
    int32_t head_dim;
    absl::StatusCode code;
    const char* words;
  };
  const auto with = [](auto set) {
    CudaRunnerOptions options = SmallPool();
    set(options);
    return options;
  };
  using O = CudaRunnerOptions;
  for (const Refusal& r :
       {Refusal{with([](O& o) { o.device = 99; }), 64, absl::StatusCode::kFailedPrecondition,
                "device 99"},
        Refusal{with([](O& o) { o.weight_dtype = Dtype::kFloat32; }), 64,
                absl::StatusCode::kInvalidArgument, "weight_dtype is fp32"},
        Refusal{with([](O& o) { o.kv_dtype = Dtype::kFloat32; }), 64,
                absl::StatusCode::kInvalidArgument, "kv_dtype is fp32"},
        Refusal{with([](O& o) { o.kv_pool_bytes = 5; }), 64, absl::StatusCode::kInvalidArgument,
                "kv_pool_bytes is 5"},
        Refusal{SmallPool(), 160, absl::StatusCode::kInvalidArgument, "head_dim is 160"},
        Refusal{with([](O& o) { o.kv_pool_bytes = int64_t{1} << 42; }), 64,
                absl::StatusCode::kResourceExhausted, "the KV pool"}}) {
    ModelConfig config = SmallModelConfig(Architecture::kLlama);
    SetHeadDim(r.head_dim, config);
    config.hidden_size = config.num_heads * r.head_dim;
    const auto runner = CreateCudaRunner(RandomModelBuilder(config).Build(), r.options);
    EXPECT_EQ(runner.status().code(), r.code) << runner.status();
    EXPECT_THAT(std::string(runner.status().message()), HasSubstr(r.words));
  }
}

TEST(CudaRunnerTest, AFailedKernelEndsTheStepAndTheRunner) {
  static bool fails;
  fails = false;
  cuda::Kernels kernels;
  kernels.product = [](const cuda::ProductArgs& args, cudaStream_t stream) {
    return fails ? cudaErrorLaunchFailure : cuda::LaunchProduct(args, stream);
  };
  for (const bool graphs : {true, false}) {
    CudaRunnerOptions options = SmallPool();
    options.capture_graphs = graphs;
    const LoadedModel model = RandomModelBuilder(Architecture::kGpt2).Build();
    auto runner = CreateCudaRunnerWith(kernels, model, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    ASSERT_TRUE((*runner)->Step({{Prompt({1, 2, 3}, kTable)}}).ok());
    fails = true;
    const absl::Status failed = (*runner)->Step({{Prompt(kIds, kTable)}}).status();
    EXPECT_TRUE(absl::IsInternal(failed)) << failed;
    fails = false;
    EXPECT_EQ((*runner)->Step({{Prompt(kIds, kTable)}}).status(), failed) << "it is not used again";
    std::vector<uint8_t> bytes((*runner)->block_bytes());
    EXPECT_EQ((*runner)->ReadBlock(0, absl::MakeSpan(bytes)), failed);
  }
}

TEST(CudaRunnerTest, OutOfMemoryInAStepIsToldAndTheNextStepRuns) {
  static bool fails;
  fails = true;
  cuda::Kernels kernels;
  kernels.product = [](const cuda::ProductArgs& args, cudaStream_t stream) {
    return fails ? cudaErrorMemoryAllocation : cuda::LaunchProduct(args, stream);
  };
  const LoadedModel model = RandomModelBuilder(Architecture::kGpt2).Build();
  auto runner = CreateCudaRunnerWith(kernels, model, SmallPool());
  ASSERT_TRUE(runner.ok()) << runner.status();
  EXPECT_TRUE(absl::IsResourceExhausted((*runner)->Step({{Prompt(kIds, kTable)}}).status()));
  fails = false;
  EXPECT_TRUE((*runner)->Step({{Prompt(kIds, kTable)}}).ok());
}

TEST(CudaRunnerTest, BlocksAreReadWrittenAndCopiedAsTheyAre) {
  const auto runner = MakeRunner();
  ASSERT_TRUE(runner->Step({{Prompt(kIds, kTable)}}).ok());
  const auto read = [&](BlockId block) {
    std::vector<uint8_t> bytes(runner->block_bytes());
    EXPECT_TRUE(runner->ReadBlock(block, absl::MakeSpan(bytes)).ok());
    return bytes;
  };
  const std::vector<uint8_t> full = read(0);
  EXPECT_THAT(full, ::testing::Not(Each(0)));
  ASSERT_TRUE(runner->WriteBlock(5, full).ok());
  EXPECT_EQ(read(5), full);
  ASSERT_TRUE(runner->CopyBlock(0, 6, kBlockTokens).ok());
  EXPECT_EQ(read(6), full);
  ASSERT_TRUE(runner->CopyBlock(0, 6, 1).ok());
  ASSERT_TRUE(runner->Step({{Prompt({5}, {7})}}).ok());
  EXPECT_EQ(read(6), read(7)) << "the first slot of a block is what one token leaves";
  ASSERT_TRUE(runner->CopyBlock(6, 6, 0).ok());
  EXPECT_THAT(read(6), Each(0));
  EXPECT_TRUE(absl::IsInvalidArgument(runner->CopyBlock(0, 1, 17)));
  EXPECT_TRUE(absl::IsInvalidArgument(runner->WriteBlock(runner->num_blocks(), full)));
  EXPECT_TRUE(absl::IsInvalidArgument(runner->WriteBlock(0, absl::MakeConstSpan(full).subspan(1))));
}

TEST(CudaRunnerTest, GreedyTokensOfTheDeviceAreThoseOfTheSampler) {
  const auto runner = MakeRunner();
  std::mt19937 random(6);
  for (int i = 0; i < 20; ++i) {
    std::vector<TokenId> ids(1 + random() % 30);
    for (TokenId& id : ids) id = static_cast<TokenId>(random() % 331);
    StepSequence s = Prompt(ids, kTable);
    s.want_logits = true;
    std::vector<TokenId> banned;
    for (uint32_t b = 0; b < random() % 3; ++b)
      banned.push_back(static_cast<TokenId>(random() % 331));
    auto first = runner->Step({{s}});
    ASSERT_TRUE(first.ok());
    banned.push_back(first->tokens[0]);
    s.banned = banned;
    auto result = runner->Step({{s}});
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(first->tokens[0], SampleToken(first->logits[0], s.sampling, {}, {}, 0));
    EXPECT_EQ(result->tokens[0], SampleToken(first->logits[0], s.sampling, {}, banned, 0));
    EXPECT_NE(result->tokens[0], first->tokens[0]);
  }
}

TEST(CudaRunnerTest, ALongStepIsCutIntoPassesToTheSameBits) {
  ModelConfig config = SmallModelConfig(Architecture::kLlama);
  config.context_length = 4096;
  const LoadedModel model = RandomModelBuilder(config).Build();
  std::vector<TokenId> ids(2500);
  std::mt19937 random(8);
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % 331);
  CudaRunnerOptions options;
  options.kv_pool_bytes = int64_t{16} << 20;
  auto runner = CreateCudaRunner(model, options);
  ASSERT_TRUE(runner.ok());
  std::vector<BlockId> table(ids.size() / kBlockTokens + 1);
  std::iota(table.begin(), table.end(), 0);
  StepSequence s = Prompt(ids, table);
  s.want_logits = true;
  const auto once = (*runner)->Step({{s}});
  ASSERT_TRUE(once.ok()) << once.status();
  std::vector<float> logits;
  for (size_t start = 0; start < ids.size(); start += 300) {
    s.tokens = absl::MakeConstSpan(ids).subspan(start, 300);
    s.start_position = static_cast<int32_t>(start);
    const auto part = (*runner)->Step({{s}});
    ASSERT_TRUE(part.ok()) << part.status();
    logits = part->logits[0];
  }
  EXPECT_EQ(logits, once->logits[0]);
}

}  // namespace
}  // namespace reprise
