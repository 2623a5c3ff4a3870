#include "core/engine/prompt_directory.h"

#include <gtest/gtest.h>

namespace reprise {
namespace {

using Ids = std::vector<TokenId>;

TEST(PromptDirectoryTest, GivesEachPromptOneId) {
  PromptDirectory prompts;
  const auto first = prompts.Add(Ids{1, 2});
  const auto second = prompts.Add(Ids{1, 2, 3});
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, 0u);
  EXPECT_NE(*first, *second);
  EXPECT_EQ(prompts.Add(Ids{1, 2}), std::nullopt);
  EXPECT_EQ(prompts.IdOf(Ids{1, 2}), first);
  EXPECT_EQ(prompts.IdOf(Ids{1}), std::nullopt);
  EXPECT_EQ(*prompts.Find(*second), (Ids{1, 2, 3}));
  EXPECT_EQ(prompts.Find(99), nullptr);
  EXPECT_EQ(prompts.size(), 2u);
}

TEST(PromptDirectoryTest, FindsAllThatSomethingBeginsWith) {
  PromptDirectory prompts;
  std::vector<uint64_t> expected;
  for (const Ids& ids : {Ids{1}, Ids{1, 2, 3}, Ids{1, 2, 3, 4, 5}}) {
    expected.insert(expected.begin(), *prompts.Add(ids));
  }
  for (const Ids& ids : {Ids{2}, Ids{1, 1}, Ids{1, 2, 4}, Ids{1, 2, 3, 4, 5, 6}}) prompts.Add(ids);
  EXPECT_EQ(prompts.BeginningsOf(Ids{1, 2, 3, 4, 5}), expected);
  EXPECT_TRUE(prompts.BeginningsOf(Ids{0, 9}).empty());
}

TEST(PromptDirectoryTest, NewIdsComeAfterRestoredOnes) {
  PromptDirectory prompts;
  prompts.Restore(7, {1, 2});
  EXPECT_EQ(prompts.IdOf(Ids{1, 2}), 7u);
  EXPECT_EQ(prompts.Add(Ids{3}), 8u);
}

TEST(PromptDirectoryTest, RestoringReplacesNothingThatIsKnown) {
  PromptDirectory prompts;
  const uint64_t id = *prompts.Add(Ids{1, 2});
  prompts.Restore(id, {9});
  prompts.Restore(id + 1, {1, 2});
  EXPECT_EQ(prompts.size(), 1u);
  EXPECT_EQ(*prompts.Find(id), (Ids{1, 2}));
  EXPECT_EQ(prompts.IdOf(Ids{1, 2}), id);
}

TEST(PromptDirectoryTest, RemovedPromptIsUnknownAndItsIdIsNotGivenAgain) {
  PromptDirectory prompts;
  const uint64_t first = *prompts.Add(Ids{1, 2}), second = *prompts.Add(Ids{3, 4, 5});
  EXPECT_EQ(prompts.total_tokens(), 5);
  prompts.Remove(second);
  prompts.Remove(second);
  EXPECT_EQ(prompts.total_tokens(), 2);
  EXPECT_EQ(prompts.IdOf(Ids{3, 4, 5}), std::nullopt);
  EXPECT_EQ(prompts.Find(second), nullptr);
  const auto again = prompts.Add(Ids{3, 4, 5});
  ASSERT_TRUE(again);
  EXPECT_GT(*again, second);
  EXPECT_EQ(prompts.RemoveOldest(), first);
  EXPECT_EQ(prompts.RemoveOldest(), again);
  EXPECT_EQ(prompts.RemoveOldest(), std::nullopt);
  EXPECT_EQ(prompts.total_tokens(), 0);
}

TEST(PromptDirectoryTest, ComparesANeighbourTokenByToken) {
  struct Case {
    const char* name;
    Ids cached, asked;
    int32_t common;
    std::optional<int32_t> diverges;
  };
  const Case cases[] = {
      {"equal", {1, 2, 3}, {1, 2, 3}, 3, std::nullopt},
      {"the cached one is a prefix", {1, 2}, {1, 2, 3}, 2, std::nullopt},
      {"the asked one is a prefix", {1, 2, 3}, {1, 2}, 2, std::nullopt},
      {"they part", {1, 2, 3}, {1, 9, 3}, 1, 1},
      {"they never meet", {1, 2}, {9}, 0, 0},
  };
  for (const Case& c : cases) {
    PromptDirectory prompts;
    const uint64_t id = *prompts.Add(c.cached);
    const auto candidate = prompts.Compare({id, 0.5f}, c.asked);
    ASSERT_TRUE(candidate) << c.name;
    EXPECT_EQ(candidate->prompt_id, id) << c.name;
    EXPECT_EQ(candidate->similarity, 0.5f) << c.name;
    EXPECT_EQ(candidate->common_tokens, c.common) << c.name;
    EXPECT_EQ(candidate->first_divergent_position, c.diverges) << c.name;
  }
  EXPECT_EQ(PromptDirectory().Compare({1, 1.0f}, Ids{1}), std::nullopt);
}

TEST(PromptDirectoryTest, OfEquallyNearPromptsTheDeepestIsTheNearest) {
  PromptDirectory prompts;
  const uint64_t shallow = *prompts.Add(Ids{1, 9}), deep = *prompts.Add(Ids{1, 2, 9}),
                 far = *prompts.Add(Ids{1, 2, 3, 9});
  const Ids asked = {1, 2, 3, 4};
  struct Case {
    const char* name;
    std::vector<Neighbor> neighbors;
    std::optional<uint64_t> nearest;
  };
  const Case cases[] = {
      {"equally near", {{shallow, 0.9f}, {deep, 0.9f}}, deep},
      {"as rounding has it", {{shallow, 0.90005f}, {deep, 0.9f}}, deep},
      {"one is farther", {{shallow, 0.9f}, {deep, 0.9f}, {far, 0.89f}}, deep},
      {"the nearest is unknown", {{77, 0.9f}, {shallow, 0.8f}, {deep, 0.7f}}, shallow},
      {"none is known", {{77, 0.9f}}, std::nullopt},
      {"there is none", {}, std::nullopt},
  };
  for (const Case& c : cases) {
    const auto nearest = prompts.Nearest(c.neighbors, asked);
    ASSERT_EQ(nearest.has_value(), c.nearest.has_value()) << c.name;
    if (!nearest) continue;
    EXPECT_EQ(nearest->prompt_id, *c.nearest) << c.name;
  }
}

}  // namespace
}  // namespace reprise
