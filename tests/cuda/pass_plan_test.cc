// How steps are cut into passes; needs no GPU.
#include "core/model/cuda/pass_plan.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/model/cuda/kernel_args.h"

namespace reprise::cuda {
namespace {

constexpr PassLimits kLimits{64, 4, 40, 3, false};

struct Batch {
  // A sequence of `tokens` at `start`; token i of sequence s is 100 s + i.
  void Add(int tokens, int start, bool sample) {
    const auto s = static_cast<int32_t>(ids.size());
    ids.emplace_back(tokens);
    std::iota(ids.back().begin(), ids.back().end(), 100 * s);
    tables.emplace_back((start + tokens + kBlockTokens - 1) / kBlockTokens);
    std::iota(tables.back().begin(), tables.back().end(), 50 * s);
    StepSequence sequence;
    sequence.tokens = ids.back();
    sequence.start_position = start;
    sequence.block_table = tables.back();
    sequence.sample = sample;
    batch.sequences.push_back(sequence);
  }

  std::vector<std::vector<TokenId>> ids;
  std::vector<std::vector<BlockId>> tables;
  StepBatch batch;
};

Batch MakeBatch(const std::vector<std::array<int, 3>>& sequences) {
  Batch made;
  made.ids.reserve(sequences.size());
  made.tables.reserve(sequences.size());
  for (const auto& [tokens, start, sample] : sequences) made.Add(tokens, start, sample != 0);
  return made;
}

// Rows of a pass that do not pad.
int CountRealRows(const PlannedPass& pass) {
  const PassLayout layout(pass.shape);
  int rows = 0;
  for (int i = 0; i < pass.shape.rows; ++i) rows += pass.words[layout.blocks + i] >= 0 ? 1 : 0;
  return rows;
}

TEST(PassPlanTest, EveryRowIsInOnePassWithItsTokenPositionAndBlock) {
  const Batch made = MakeBatch({{100, 5, 1}, {1, 33, 1}, {20, 0, 0}, {1, 7, 1}});
  std::vector<std::pair<TokenId, int>> rows;
  int logit_rows = 0;
  for (const PlannedPass& pass : PlanPasses(made.batch, kLimits)) {
    const PassLayout layout(pass.shape);
    EXPECT_LE(pass.shape.rows, kLimits.max_rows);
    for (int i = 0; i < CountRealRows(pass); ++i) {
      const TokenId token = pass.words[layout.tokens + i];
      const int position = pass.words[layout.positions + i];
      rows.emplace_back(token, position);
      EXPECT_EQ(pass.words[layout.blocks + i], 50 * (token / 100) + position / kBlockTokens);
    }
    logit_rows += pass.logit_rows;
  }
  ASSERT_EQ(rows.size(), size_t{122});
  EXPECT_EQ(rows[0], std::make_pair(0, 5));
  EXPECT_EQ(rows[99], std::make_pair(99, 104));
  EXPECT_EQ(rows[100], std::make_pair(100, 33));
  EXPECT_EQ(rows[121], std::make_pair(300, 7));
  EXPECT_EQ(logit_rows, 3);
}

TEST(PassPlanTest, TilesCoverEachRowAndHeadOnce) {
  const Batch made = MakeBatch({{30, 10, 1}, {1, 3, 1}});
  for (const PlannedPass& pass : PlanPasses(made.batch, kLimits)) {
    const auto* tiles =
        reinterpret_cast<const AttentionTile*>(&pass.words[PassLayout(pass.shape).tiles]);
    int pairs = 0;
    for (int i = 0; i < pass.shape.tiles; ++i) {
      EXPECT_LE(tiles[i].pairs, 16);
      pairs += tiles[i].pairs;
    }
    EXPECT_EQ(pairs, CountRealRows(pass) * kLimits.group);
  }
}

TEST(PassPlanTest, LongPiecesGetWideTilesWhereTheyMay) {
  PassLimits limits{1024, 4, 100, 3, true};
  const Batch made = MakeBatch({{300, 0, 1}, {1, 3, 1}});
  auto passes = PlanPasses(made.batch, limits);
  ASSERT_EQ(passes.size(), size_t{1});
  EXPECT_EQ(passes[0].shape.tiles, 1) << "of the second";
  const auto* tiles = reinterpret_cast<const AttentionTile*>(
      &passes[0].words[PassLayout(passes[0].shape).wide_tiles]);
  int pairs = 0;
  for (int i = 0; i < passes[0].shape.wide_tiles; ++i) {
    EXPECT_LE(tiles[i].pairs, kWidePairs);
    pairs += tiles[i].pairs;
  }
  EXPECT_EQ(pairs, 300 * limits.group);
  limits.wide = false;
  EXPECT_EQ(PlanPasses(made.batch, limits)[0].shape.wide_tiles, 0);
}

TEST(PassPlanTest, LogitRowsAndTablesBoundAPassToo) {
  const Batch many = MakeBatch({{1, 0, 1}, {1, 1, 1}, {1, 2, 1}, {1, 3, 1}, {1, 4, 1}, {1, 5, 1}});
  const auto passes = PlanPasses(many.batch, kLimits);
  ASSERT_EQ(passes.size(), size_t{2});
  EXPECT_EQ(passes[0].logit_rows, 4);
  EXPECT_EQ(passes[1].logit_rows, 2);
  const Batch deep = MakeBatch({{1, 400, 0}, {1, 400, 0}});
  EXPECT_EQ(PlanPasses(deep.batch, kLimits).size(), size_t{2}) << "two tables of 26 words";
  const PassLimits wide{64, 4, 52, 3, false};
  EXPECT_EQ(PlanPasses(deep.batch, wide).size(), size_t{1});
}

TEST(PassPlanTest, WhoWritesTheFirstSlotOfABlockHasTheRestCleared) {
  // Positions 5 … 36: the first block is begun elsewhere, two are begun here.
  const Batch made = MakeBatch({{32, 5, 0}});
  const auto passes = PlanPasses(made.batch, kLimits);
  ASSERT_EQ(passes.size(), size_t{1});
  const int32_t* clears = &passes[0].words[PassLayout(passes[0].shape).clears];
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(clears[i], i == 26 || i == 31 ? 1 : 0) << "row " << i;
  }
}

TEST(PassPlanTest, WordsAreAtMostWhatIsAllocated) {
  for (const int rows : {1, 3, 17, 64, 500}) {
    const Batch made = MakeBatch({{rows, 0, 1}, {2, 9, 1}});
    for (const PlannedPass& pass : PlanPasses(made.batch, kLimits)) {
      EXPECT_LE(static_cast<int64_t>(pass.words.size()), MaxPassWords(kLimits));
    }
  }
}

}  // namespace
}  // namespace reprise::cuda
