#include "core/model/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

namespace reprise {
namespace {

using ::testing::UnorderedElementsAre;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TokenId Sample(const std::vector<float>& logits, const SamplingOptions& options = {},
               int64_t position = 0, const SamplingHistory& history = {},
               const std::vector<TokenId>& banned = {}) {
  return SampleToken(logits, options, history, banned, position);
}

// Every id that some of many positions draws.
std::set<TokenId> Reachable(const std::vector<float>& logits, const SamplingOptions& options,
                            const std::vector<TokenId>& banned = {}) {
  std::set<TokenId> ids;
  for (int64_t position = 0; position < 2000; ++position) {
    ids.insert(Sample(logits, options, position, {}, banned));
  }
  return ids;
}

TEST(SamplingTest, GreedyTakesTheLikeliestAndTheLowestIdOfEquals) {
  EXPECT_EQ(Sample({1, 3, 2}), 1);
  EXPECT_EQ(Sample({1, 3, 3, 3}), 1);
  EXPECT_EQ(Sample({2, 2}), 0);
  EXPECT_EQ(Sample({-0.0f, 0.0f}), 0);
}

TEST(SamplingTest, TopKOfEqualsKeepsTheLowestIds) {
  EXPECT_THAT(Reachable({5, 5, 5, 5}, {.temperature = 1, .top_k = 2}), UnorderedElementsAre(0, 1));
}

TEST(SamplingTest, FiltersKeepWhatTheyPromise) {
  // Probabilities 1/2, 1/4, 1/8, 1/8 of ids 2, 0, 1, 3 at temperature 1.
  const std::vector<float> logits = {std::log(2.0f), 0, std::log(4.0f), 0};
  struct Case {
    SamplingOptions options;
    std::set<TokenId> kept;
  };
  const Case kCases[] = {
      {{.temperature = 1}, {0, 1, 2, 3}},
      {{.temperature = 1, .top_k = 1}, {2}},
      {{.temperature = 1, .top_k = 3}, {0, 1, 2}},
      {{.temperature = 1, .top_k = 100}, {0, 1, 2, 3}},
      {{.temperature = 1, .top_p = 0.4f}, {2}},
      {{.temperature = 1, .top_p = 0.6f}, {0, 2}},
      {{.temperature = 1, .top_p = 0.8f}, {0, 1, 2}},
      {{.temperature = 1, .top_p = 1e-6f}, {2}},
      {{.temperature = 1, .min_p = 1.0f}, {2}},
      {{.temperature = 1, .min_p = 0.4f}, {0, 2}},
      {{.temperature = 1, .min_p = 0.2f}, {0, 1, 2, 3}},
      {{.temperature = 1, .top_k = 2, .min_p = 0.2f}, {0, 2}},
      {{.temperature = 100, .top_p = 0.7f}, {0, 1, 2}},  // nearly even: three quarters are needed
      {{.temperature = 0.01f}, {2}},
  };
  for (const Case& c : kCases) {
    EXPECT_EQ(Reachable(logits, c.options), c.kept)
        << "temperature " << c.options.temperature << " top_k " << c.options.top_k << " top_p "
        << c.options.top_p << " min_p " << c.options.min_p;
  }
}

TEST(SamplingTest, PenaltiesMoveTheChoice) {
  const std::vector<TokenId> prompt = {0}, generated = {1, 1};
  struct Case {
    std::vector<float> logits;
    SamplingOptions options;
    TokenId chosen;
  };
  const Case kCases[] = {
      {{3, 2, 1}, {}, 0},
      {{3, 2, 1.9f}, {.repetition_penalty = 2}, 2},     // 1.5, 1, 1.9
      {{3, 2, 1}, {.repetition_penalty = 1.2f}, 0},     // 2.5, 1.7, 1
      {{-1, -1, -1.5f}, {.repetition_penalty = 2}, 2},  // negative logits are multiplied
      {{-3, 2, 1.9f}, {.repetition_penalty = 0.5f}, 1},
      {{1, 2, 0}, {.presence_penalty = 1.5f}, 0},  // generated ids only, once
      {{1, 2, 0}, {.presence_penalty = 0.9f}, 1},
      {{1, 2, 0}, {.frequency_penalty = 0.6f}, 0},  // per occurrence
      {{1, 2, 0}, {.frequency_penalty = 0.4f}, 1},
      {{1, 2, 0}, {.presence_penalty = -9}, 1},
  };
  for (const Case& c : kCases) {
    EXPECT_EQ(Sample(c.logits, c.options, 0, {prompt, generated}), c.chosen)
        << ::testing::PrintToString(c.logits);
  }
}

TEST(SamplingTest, BannedIdsAreNeverChosen) {
  EXPECT_EQ(Sample({9, 1, 2}, {}, 0, {}, {0}), 2);
  EXPECT_EQ(Reachable({9, 1, 1}, {.temperature = 1}, {0}), (std::set<TokenId>{1, 2}));
  EXPECT_EQ(Sample({kNan, kNan, kNan}, {}, 0, {}, {0}), 1);
  EXPECT_EQ(Sample({-kInfinity, -kInfinity}, {.temperature = 1}, 0, {}, {0}), 1);
}

TEST(SamplingTest, ANaNLogitCountsAsTheLowestWhereverItStands) {
  for (const float temperature : {0.0f, 1.0f}) {
    const SamplingOptions options = {.temperature = temperature};
    EXPECT_EQ(Sample({kNan, -50, -90}, options), 1);
    EXPECT_EQ(Sample({-90, -50, kNan}, options), 1);
    EXPECT_EQ(Sample({kNan, kNan, kNan}, options), 0);
    EXPECT_EQ(Sample({-kInfinity, -50, -kInfinity}, options), 1);
    EXPECT_EQ(Sample({0, kInfinity, 1}, options), 1);
  }
}

TEST(SamplingTest, TheCounterGeneratorIsAFunctionOfSeedAndPosition) {
  std::set<double> values;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    for (int64_t position = 0; position < 50; ++position) {
      const double value = CounterUniform(seed, position);
      EXPECT_EQ(value, CounterUniform(seed, position));
      EXPECT_GE(value, 0.0);
      EXPECT_LT(value, 1.0);
      values.insert(value);
    }
  }
  EXPECT_EQ(values.size(), 2500u);
}

// A draw depends on nothing that ran before it: any order gives the same tokens.
TEST(SamplingTest, TheSameSeedAndPositionDrawTheSameTokenInAnyOrder) {
  std::vector<float> logits(100);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i));
  const SamplingOptions options = {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .seed = 11};
  std::vector<TokenId> forward, backward;
  for (int64_t at = 0; at < 64; ++at) forward.push_back(Sample(logits, options, at));
  for (int64_t at = 63; at >= 0; --at) {
    Sample({1, 2, 3}, {.temperature = 1, .seed = 5}, at);
    backward.insert(backward.begin(), Sample(logits, options, at));
  }
  EXPECT_EQ(forward, backward);
  SamplingOptions other = options;
  other.seed = 12;
  std::vector<TokenId> reseeded;
  for (int64_t at = 0; at < 64; ++at) reseeded.push_back(Sample(logits, other, at));
  EXPECT_NE(reseeded, forward);
}

// Seed and positions are fixed, so this cannot flake; the bound is the 99.9 % quantile of
// chi-square with 7 degrees of freedom.
TEST(SamplingTest, TokensFollowTheirProbabilities) {
  const std::vector<double> expected = {0.02, 0.3, 0.08, 0.1, 0.2, 0.05, 0.15, 0.1};
  for (const float temperature : {1.0f, 0.5f, 2.0f}) {
    std::vector<float> logits;
    for (const double p : expected) logits.push_back(std::log(static_cast<float>(p)) * temperature);
    constexpr int kDraws = 40000;
    std::vector<int> counts(expected.size());
    for (int i = 0; i < kDraws; ++i) {
      ++counts[Sample(logits, {.temperature = temperature, .seed = 42}, i)];
    }
    double chi_square = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double want = expected[i] * kDraws;
      chi_square += (counts[i] - want) * (counts[i] - want) / want;
    }
    EXPECT_LT(chi_square, 24.3) << "temperature " << temperature;
  }
}

TEST(SamplingTest, BannedIdsOutsideTheVocabularyAreIgnored) {
  EXPECT_EQ(Sample({1, 3, 2}, {}, 0, {}, {-1, 3, 1 << 30, 1}), 2);
}

}  // namespace
}  // namespace reprise
