// Real KV through every tier: the engine over a model with random weights and
// RocksDB. Whatever is reused, from wherever, the logits behind each token of the
// reply equal those of a cold run, bit for bit.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <future>
#include <map>
#include <random>

#include "core/engine/engine.h"
#include "core/store/rocksdb_store.h"
#include "core/text/byte_tokenizer.h"
#include "tests/fakes/faulty_store.h"
#include "tests/fakes/gate.h"
#include "tests/fakes/random_model.h"
#include "tests/fakes/test_runner.h"

namespace reprise {
namespace {

using Logits = std::map<int64_t, std::vector<float>>;  // by the position they follow

// Keeps the logits that tokens are chosen by.
class RecordingRunner final : public ModelRunner {
 public:
  RecordingRunner(std::unique_ptr<ModelRunner> runner, Logits* logits, Gate* gate)
      : runner_(std::move(runner)), logits_(logits), gate_(gate) {}

  absl::StatusOr<StepResult> Step(const StepBatch& batch) override {
    gate_->Pass();
    StepBatch asking = batch;
    for (StepSequence& sequence : asking.sequences) sequence.want_logits = sequence.sample;
    auto result = runner_->Step(asking);
    for (size_t i = 0; result.ok() && i < batch.sequences.size(); ++i) {
      const StepSequence& s = batch.sequences[i];
      const int64_t last = s.start_position + static_cast<int64_t>(s.tokens.size()) - 1;
      if (s.sample) (*logits_)[last + result->accepted[i]] = result->logits[i];
    }
    return result;
  }
  absl::Status ReadBlock(BlockId block, MutableByteView out) const override {
    return runner_->ReadBlock(block, out);
  }
  absl::Status WriteBlock(BlockId block, ByteView in) override {
    return runner_->WriteBlock(block, in);
  }
  absl::Status CopyBlock(BlockId from, BlockId to, int32_t tokens) override {
    return runner_->CopyBlock(from, to, tokens);
  }
  int32_t num_blocks() const override { return runner_->num_blocks(); }
  int64_t block_bytes() const override { return runner_->block_bytes(); }
  int64_t weight_bytes() const override { return runner_->weight_bytes(); }
  int32_t context_length() const override { return runner_->context_length(); }
  int32_t vocabulary_size() const override { return runner_->vocabulary_size(); }
  const std::string& numerics_id() const override { return runner_->numerics_id(); }

 private:
  std::unique_ptr<ModelRunner> runner_;
  Logits* logits_;
  Gate* gate_;  // before each step
};

constexpr int kOutputTokens = 20;
// A few prompts' worth, so that blocks are evicted.
int64_t PoolBytes(Architecture architecture) {
  return int64_t{TraitsOf(architecture).rotary() ? 1 : 3} << 20;
}

class ReuseExactnessTest : public ::testing::TestWithParam<Architecture> {
 protected:
  ReuseExactnessTest() {
    std::string folder = ::testing::TempDir() + "reuse_exactness.XXXXXX";
    folder_ = mkdtemp(folder.data());
    Start();
  }
  ~ReuseExactnessTest() override {
    gate_.Open();
    faults_->OpenGates();
    engine_.reset();
    const std::string remove = "rm -rf '" + folder_ + "'";
    EXPECT_EQ(system(remove.c_str()), 0);
  }

  void Start() {
    engine_.reset();
    TestRunnerOptions options;
    options.kv_pool_bytes = PoolBytes(GetParam());
    auto runner = MakeTestRunner(RandomModelBuilder(GetParam()).Build(), options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    RocksDbOptions store_options;
    store_options.path = folder_;
    auto store = OpenRocksDbStore(store_options);
    ASSERT_TRUE(store.ok()) << store.status();
    EngineParts parts;
    parts.runner = std::make_unique<RecordingRunner>(*std::move(runner), &logits_, &gate_);
    parts.store = CreateFaultyStore(*std::move(store), faults_);
    parts.tokenizer = tokenizer_.get();
    parts.metrics = &metrics_;
    parts.clock = &clock_;
    parts.load_way = &way_;
    EngineOptions engine;
    engine.retrieval_mode = RetrievalMode::kPrefix;
    engine.flush_after_idle = absl::ZeroDuration();
    engine.eviction.policy = EvictionPolicy::kLru;  // so that other prompts push one out
    auto made = Engine::Create(engine, std::move(parts));
    ASSERT_TRUE(made.ok()) << made.status();
    engine_ = *std::move(made);
  }

  GenerateResult Run(const std::vector<TokenId>& prompt, CachePolicy policy,
                     std::optional<PromptLookupOptions> speculation = std::nullopt) {
    logits_.clear();
    return Begin(prompt, policy, speculation).get();
  }

  std::future<GenerateResult> Begin(const std::vector<TokenId>& prompt, CachePolicy policy,
                                    std::optional<PromptLookupOptions> speculation = std::nullopt,
                                    int32_t output_tokens = kOutputTokens) {
    GenerateRequest request;
    request.speculation = speculation;
    request.prompt = prompt;
    request.max_output_tokens = output_tokens;
    request.ignore_eos = true;
    request.cache_policy = policy;
    const auto ended = std::make_shared<std::promise<GenerateResult>>();
    const GenerationSink sink{[](const TokenChunk&) {},
                              [ended](const absl::Status& status, GenerateResult result) {
                                EXPECT_TRUE(status.ok()) << status;
                                ended->set_value(std::move(result));
                              }};
    EXPECT_TRUE(engine_->Submit(request, sink).ok());
    return ended->get_future();
  }

  // The reply and its logits against those of `cold`. Accepted draft tokens show none.
  void ExpectSame(const GenerateResult& reply, const GenerateResult& cold, const Logits& logits) {
    EXPECT_EQ(reply.output_ids, cold.output_ids);
    ASSERT_EQ(logits_.size() + reply.usage.accepted_tokens, logits.size());
    for (const auto& [position, got] : logits_) {
      const auto found = logits.find(position);
      ASSERT_TRUE(found != logits.end()) << "position " << position;
      const std::vector<float>& expected = found->second;
      ASSERT_EQ(got.size(), expected.size());
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0)
          << "position " << position;
    }
  }

  std::vector<TokenId> Ids(uint32_t seed, size_t count) const {
    std::mt19937 random(seed);
    std::vector<TokenId> ids(count);
    for (TokenId& id : ids) id = static_cast<TokenId>(random() % 331);
    return ids;
  }

  std::string folder_;
  std::unique_ptr<Tokenizer> tokenizer_ = CreateByteTokenizer();
  SystemClock clock_;
  Metrics metrics_;
  Logits logits_;
  Gate gate_;
  std::atomic<LoadWay> way_{LoadWay::kBest};
  std::shared_ptr<StoreFaults> faults_ = std::make_shared<StoreFaults>();
  std::unique_ptr<Engine> engine_;
};

TEST_P(ReuseExactnessTest, MemoryDiskAndEvictionChangeNoBit) {
  const std::vector<TokenId> cached = Ids(1, 150);
  std::vector<TokenId> prompt = cached;
  for (const TokenId id : Ids(2, 30)) prompt.push_back(id);
  const GenerateResult cold = Run(prompt, CachePolicy::kBypass);
  const Logits logits = logits_;
  ASSERT_EQ(logits.size(), size_t{kOutputTokens});

  Run(cached, CachePolicy::kForce);
  const GenerateResult warm = Run(prompt, CachePolicy::kReadOnly);
  EXPECT_EQ(warm.reuse.host_tokens + warm.reuse.disk_tokens, 150);
  ExpectSame(warm, cold, logits);

  const GenerateResult kept = Run(prompt, CachePolicy::kForce);
  ExpectSame(kept, cold, logits);
  ASSERT_TRUE(engine_->WaitUntilIdle(absl::Seconds(60)));

  Start();
  const GenerateResult from_disk = Run(prompt, CachePolicy::kForce);
  EXPECT_EQ(from_disk.reuse.disk_tokens, 179) << "all but the last prompt token";
  EXPECT_EQ(from_disk.reuse.host_tokens, 0);
  ExpectSame(from_disk, cold, logits);

  // Other prompts push it out of memory.
  for (uint32_t seed = 10; seed < 20; ++seed) Run(Ids(seed, 200), CachePolicy::kForce);
  ASSERT_TRUE(engine_->WaitUntilIdle(absl::Seconds(60)));
  const GenerateResult evicted = Run(prompt, CachePolicy::kForce);
  EXPECT_GT(evicted.reuse.disk_tokens, 0);
  EXPECT_EQ(evicted.reuse.disk_tokens + evicted.reuse.host_tokens, 179);
  ExpectSame(evicted, cold, logits);
}

TEST_P(ReuseExactnessTest, GeneratedTokensAreReusedToTheSameBits) {
  std::vector<TokenId> turn = Ids(3, 70);
  const GenerateResult first = Run(turn, CachePolicy::kForce);
  turn.insert(turn.end(), first.output_ids.begin(), first.output_ids.end());
  for (const TokenId id : Ids(4, 9)) turn.push_back(id);
  const GenerateResult cold = Run(turn, CachePolicy::kBypass);
  const Logits logits = logits_;
  const GenerateResult warm = Run(turn, CachePolicy::kForce);
  EXPECT_EQ(warm.reuse.host_tokens + warm.reuse.disk_tokens, 70 + kOutputTokens - 1)
      << "the last token generated was never computed";
  ExpectSame(warm, cold, logits);
}

TEST_P(ReuseExactnessTest, SpeculationGivesTheSameBitsAndSoDoesWhatItLeavesInTheCache) {
  // A random model need not repeat itself: until a guess was right, too.
  int32_t accepted = 0;
  for (uint32_t seed = 30; seed < 36 || (accepted == 0 && seed < 80); ++seed) {
    std::vector<TokenId> turn = Ids(seed, 70);
    const GenerateResult plain = Run(turn, CachePolicy::kBypass);
    // What comes is in the prompt too, so that it is guessed.
    turn.insert(turn.begin(), plain.output_ids.begin(), plain.output_ids.end());
    const GenerateResult cold = Run(turn, CachePolicy::kBypass);
    const Logits logits = logits_;
    const GenerateResult drafted =
        Run(turn, CachePolicy::kForce, PromptLookupOptions{.min_ngram = 1});
    ExpectSame(drafted, cold, logits);
    accepted += drafted.usage.accepted_tokens;

    turn.insert(turn.end(), cold.output_ids.begin(), cold.output_ids.end());
    turn.push_back(7);
    const GenerateResult next_cold = Run(turn, CachePolicy::kBypass);
    const Logits next_logits = logits_;
    const GenerateResult next = Run(turn, CachePolicy::kForce);
    EXPECT_EQ(next.reuse.host_tokens + next.reuse.disk_tokens, 90 + kOutputTokens - 1);
    ExpectSame(next, next_cold, next_logits);
  }
  EXPECT_GT(accepted, 0);
}

TEST_P(ReuseExactnessTest, WhatAnotherRequestComputesMeanwhileIsSharedToTheSameBits) {
  const std::vector<TokenId> common = Ids(40, 120);
  std::vector<TokenId> first = common, second = common;
  for (const TokenId id : Ids(41, 30)) first.push_back(id);
  for (const TokenId id : Ids(42, 25)) second.push_back(id);
  const GenerateResult cold = Run(second, CachePolicy::kBypass);
  const Logits logits = logits_;
  logits_.clear();
  gate_.Close();
  auto leader = Begin(first, CachePolicy::kForce, std::nullopt, /*output_tokens=*/0);
  gate_.AwaitWaiter();
  // It waits from the second step on, in which the first prompt is not yet computed whole.
  auto waiter = Begin(second, CachePolicy::kForce);
  gate_.Open();
  EXPECT_EQ(leader.get().usage.computed_tokens, 150);
  const GenerateResult shared = waiter.get();
  EXPECT_GT(shared.usage.cached_tokens, 96);
  ExpectSame(shared, cold, logits);
}

TEST_P(ReuseExactnessTest, WhatIsComputedFromTheFrontAndLoadedFromTheBackIsTheSame) {
  const std::vector<TokenId> prompt = Ids(50, 200);
  const GenerateResult cold = Run(prompt, CachePolicy::kBypass);
  const Logits logits = logits_;
  Run(prompt, CachePolicy::kForce);
  ASSERT_TRUE(engine_->WaitUntilIdle(absl::Seconds(60)));
  way_ = LoadWay::kSplit;
  bool split = false;
  for (int attempt = 0; attempt < 60 && !split; ++attempt) {
    for (uint32_t seed = 60; seed < 70; ++seed) Run(Ids(seed, 200), CachePolicy::kUse);
    const GenerateResult warm = Run(prompt, CachePolicy::kUse);
    ExpectSame(warm, cold, logits);
    split = warm.reuse.reason == ReuseReason::kFasterToSplit && warm.reuse.disk_tokens > 0;
  }
  EXPECT_TRUE(split);
}

INSTANTIATE_TEST_SUITE_P(All, ReuseExactnessTest,
                         ::testing::Values(Architecture::kGpt2, Architecture::kLlama,
                                           Architecture::kGptNeo, Architecture::kQwen2,
                                           Architecture::kGemma3),
                         [](const auto& info) {
                           return std::string(ArchitectureName(info.param));
                         });

}  // namespace
}  // namespace reprise
