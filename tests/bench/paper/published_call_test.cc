#include "tests/bench/paper/published_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "core/model/cpu_runner.h"
#include "tests/fakes/random_model.h"

namespace reprise::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

constexpr int32_t kMaxSlots = 64;

std::vector<TokenId> Ids(int count, int seed = 1) {
  std::vector<TokenId> ids(count);
  for (int i = 0; i < count; ++i) ids[i] = (seed * 37 + i * 53) % 300;
  return ids;
}

std::unique_ptr<PositionedModel> Model(const LoadedModel& model) {
  return *PositionedModel::Create(model, 1, kMaxSlots);
}

// What the runner, which knows one position only, says to the whole prompt.
std::vector<TokenId> RunnerReply(const LoadedModel& model, std::vector<TokenId> tokens, int count) {
  const auto runner = *CreateCpuRunner(model, {.num_threads = 1, .kv_pool_bytes = 1 << 20});
  std::vector<BlockId> blocks(kMaxSlots / kBlockTokens);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::vector<TokenId> reply;
  for (size_t done = 0; static_cast<int>(reply.size()) < count;) {
    StepSequence sequence;
    sequence.tokens = absl::MakeSpan(tokens).subspan(done);
    sequence.start_position = static_cast<int32_t>(done);
    sequence.block_table = blocks;
    sequence.sample = true;
    const auto result = runner->Step({{sequence}});
    done = tokens.size();
    reply.push_back(result->tokens[0]);
    tokens.push_back(reply.back());
  }
  return reply;
}

TEST(PublishedFeedTest, IsThatOfTheLibrary) {
  const struct {
    int32_t cached;
    std::vector<TokenId> suffix, tokens;
    int32_t position;
  } cases[] = {
      {8, {13786, 281, 1672, 3586, 13}, {13}, 4},  // no longer than the prefix: its last id
      {7, {1, 2, 3, 4, 5, 6, 13}, {13}, 6},
      {5, {1, 2, 3, 4, 5, 12098, 13}, {12098, 13}, 5},  // longer: without the first five
      {6, {1, 2, 3, 4, 5, 6, 2266, 13}, {2266, 13}, 6},
      {6, {1, 2, 3, 13}, {13}, 3},
  };
  for (const auto& c : cases) {
    const Feed feed = PublishedFeed(c.suffix, c.cached);
    EXPECT_THAT(feed.tokens, ElementsAreArray(c.tokens));
    EXPECT_EQ(feed.first_position, c.position);
  }
}

class PositionedModelTest : public testing::TestWithParam<Architecture> {
 protected:
  LoadedModel model_ = RandomModelBuilder(GetParam()).Build();
};

TEST_P(PositionedModelTest, SaysWhatTheRunnerSaysColdAndWithReuse) {
  const std::vector<TokenId> prompt = Ids(21);
  const GreedyOptions options{.max_tokens = 12};
  const auto model = Model(model_);
  const GreedyReply cold = model->Generate({prompt, 0}, 0, options);
  EXPECT_THAT(cold.tokens, ElementsAreArray(RunnerReply(model_, prompt, 12)));
  model->Truncate(9);
  const auto suffix = absl::MakeSpan(prompt).subspan(9);
  EXPECT_EQ(model->Generate(CorrectFeed(suffix, 9), 9, options).tokens, cold.tokens);
  // Longer than the prefix, what is left of the suffix is where a shorter prompt would have it.
  std::vector<TokenId> shorter(prompt.begin(), prompt.begin() + 9);
  shorter.insert(shorter.end(), suffix.begin() + 9, suffix.end());
  model->Truncate(9);
  EXPECT_THAT(model->Generate(PublishedFeed(suffix, 9), 9, options).tokens,
              ElementsAreArray(RunnerReply(model_, shorter, 12)));
}

TEST_P(PositionedModelTest, EndsAtTheEndTokenOrNeverChoosesIt) {
  const std::vector<TokenId> prompt = Ids(10);
  const auto model = Model(model_);
  const TokenId first = model->Generate({prompt, 0}, 0, {.max_tokens = 1}).tokens[0];
  const GreedyReply ended = model->Generate({prompt, 0}, 0, {.max_tokens = 5, .end_token = first});
  EXPECT_TRUE(ended.ended);
  EXPECT_TRUE(ended.tokens.empty());
  const GreedyReply ignored =
      model->Generate({prompt, 0}, 0, {.max_tokens = 5, .end_token = first, .ignore_end = true});
  EXPECT_FALSE(ignored.ended);
  EXPECT_EQ(ignored.tokens.size(), 5u);
  EXPECT_THAT(ignored.tokens, ::testing::Not(::testing::Contains(first)));
}

INSTANTIATE_TEST_SUITE_P(All, PositionedModelTest,
                         testing::Values(Architecture::kGpt2, Architecture::kLlama));

// Learned positions: telling a token position p is what giving its slot the embedding of p is.
TEST(PositionedModelGpt2Test, FollowsThePositionItIsToldAndNotItsSlot) {
  const LoadedModel model = RandomModelBuilder(Architecture::kGpt2).Build();
  constexpr int32_t kCached = 14, kSuffix = 6;
  const std::vector<TokenId> prefix = Ids(kCached), suffix = Ids(kSuffix, 2);

  const WeightTensor& table = **model.weights->Find("position_embedding");
  std::vector<std::vector<uint8_t>> owned = {{table.bytes.begin(), table.bytes.end()}};
  const size_t row = model.config.hidden_size * sizeof(float);
  for (int32_t slot = kCached; slot < kMaxSlots; ++slot) {
    std::memcpy(owned[0].data() + slot * row,
                table.bytes.data() + (slot - kCached + kSuffix - 1) * row, row);
  }
  std::vector<WeightTensor> tensors = model.weights->tensors();
  for (WeightTensor& tensor : tensors) {
    if (tensor.name == table.name) tensor.bytes = ByteView(owned[0]);
  }
  LoadedModel moved = model;
  moved.weights = std::make_shared<const WeightFile>(
      std::vector<std::shared_ptr<const MappedFile>>(), std::move(owned), std::move(tensors));

  const auto positioned = Model(model);
  positioned->Prefill(prefix);
  const Feed feed = PublishedFeed(suffix, kCached);
  ASSERT_THAT(feed.tokens, ElementsAre(suffix.back()));
  std::vector<TokenId> prompt = prefix;
  prompt.push_back(suffix.back());
  const std::vector<TokenId> reply = positioned->Generate(feed, kCached, {.max_tokens = 12}).tokens;
  EXPECT_THAT(reply, ElementsAreArray(RunnerReply(moved, prompt, 12)));
  EXPECT_NE(reply, RunnerReply(model, prompt, 12)) << "the position is all that differs";
}

// Rotary positions are relative: moving all by the same number changes nothing but rounding.
TEST(PositionedModelLlamaTest, TellsQueriesAndKeysTheSamePosition) {
  const auto model = Model(RandomModelBuilder(Architecture::kLlama).Build());
  const std::vector<TokenId> prompt = Ids(20);
  const auto reply = [&](int32_t first_position) {
    model->Truncate(0);
    return model->Generate({prompt, first_position}, 0, {.max_tokens = 3}).tokens;
  };
  EXPECT_EQ(reply(40), reply(0));
}

}  // namespace
}  // namespace reprise::bench
