#include "core/model/kv_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/model/kernels.h"
#include "core/model/small_floats.h"

namespace reprise {
namespace {

using ::testing::Each;

ModelConfig Config() {
  ModelConfig config;
  config.num_layers = 3;
  config.num_kv_heads = 2;
  config.head_dim = 4;
  return config;
}

// A row of both heads that no other (layer, slot) has.
std::vector<float> Row(int layer, bool value, int slot) {
  std::vector<float> row(8);
  for (int i = 0; i < 8; ++i) {
    row[i] = static_cast<float>(1 + i + 8 * slot + 1000 * layer + (value ? 500 : 0)) + 0.3f;
  }
  return row;
}

void FillSlots(KvPool& pool, BlockId block, int slots) {
  for (int layer = 0; layer < 3; ++layer) {
    for (int slot = 0; slot < slots; ++slot) {
      for (const bool value : {false, true}) {
        const std::vector<float> row = Row(layer, value, slot);
        std::vector<uint8_t> rounded(row.size() * sizeof(float));
        SelectKernels("")->round_row(pool.dtype(), row.data(), row.size(), rounded.data());
        pool.StoreRow(block, layer, value, slot, rounded.data());
      }
    }
  }
}

TEST(KvPoolTest, HoldsAsManyWholeBlocksAsFit) {
  const int64_t block = int64_t{3} * 2 * 2 * kBlockTokens * 4 * 2;
  struct Case {
    int64_t bytes;
    int32_t blocks;
  };
  for (const Case& c : {Case{block, 1}, Case{2 * block - 1, 1}, Case{7 * block, 7},
                        Case{block - 1, 0}, Case{0, 0}, Case{-5 * block, 0}}) {
    const KvPool pool(Config(), Dtype::kBfloat16, c.bytes);
    EXPECT_EQ(pool.num_blocks(), c.blocks) << c.bytes;
    EXPECT_EQ(pool.block_bytes(), block);
  }
  EXPECT_EQ(KvPool(Config(), Dtype::kFloat32, 1 << 20).block_bytes(), 2 * block);
}

// Where kv_pool.h says that an element of a head of four lies.
int Index(Dtype dtype, bool value, int slot, int element) {
  const int n = dtype == Dtype::kBfloat16 ? 2 : 1;
  return value ? (slot / n * 4 + element) * n + slot % n
               : (element / n * kBlockTokens + slot) * n + element % n;
}

class KvPoolDtypeTest : public ::testing::TestWithParam<Dtype> {};

TEST_P(KvPoolDtypeTest, ARowIsReadBackFromItsHeadAndSlotRoundedToTheDtype) {
  KvPool pool(Config(), GetParam(), 1 << 20);
  FillSlots(pool, 1, kBlockTokens);
  for (int layer = 0; layer < 3; ++layer) {
    for (const bool value : {false, true}) {
      for (int i = 0; i < 8 * kBlockTokens; ++i) {
        const int head = i / 4 % 2, slot = i / 8, element = i % 4;
        const float stored = Row(layer, value, slot)[head * 4 + element];
        const uint8_t* at = pool.Head(1, layer, value, head) +
                            Index(GetParam(), value, slot, element) * DtypeBytes(GetParam());
        if (GetParam() == Dtype::kFloat32) {
          float read;
          std::memcpy(&read, at, sizeof(read));
          ASSERT_EQ(read, stored);
        } else {
          uint16_t read;
          std::memcpy(&read, at, sizeof(read));
          ASSERT_EQ(read, GetParam() == Dtype::kBfloat16 ? ToBfloat16(stored) : ToFloat16(stored));
        }
      }
    }
  }
  EXPECT_THAT(pool.Block(0), Each(0)) << "another block was written";
  EXPECT_THAT(pool.Block(2), Each(0)) << "another block was written";
}

TEST_P(KvPoolDtypeTest, CopyingSlotsEqualsHavingWrittenOnlyThem) {
  for (const int tokens : {0, 1, 7, kBlockTokens}) {
    KvPool pool(Config(), GetParam(), 1 << 20);
    FillSlots(pool, 0, kBlockTokens);
    FillSlots(pool, 1, kBlockTokens);  // must be overwritten or zeroed
    FillSlots(pool, 2, tokens);
    pool.CopySlots(0, 1, tokens);
    EXPECT_EQ(pool.Block(1), pool.Block(2)) << tokens;
    pool.CopySlots(0, 0, tokens);  // onto itself
    EXPECT_EQ(pool.Block(0), pool.Block(2)) << tokens;
  }
}

INSTANTIATE_TEST_SUITE_P(All, KvPoolDtypeTest,
                         ::testing::Values(Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16),
                         [](const auto& info) { return std::string(DtypeName(info.param)); });

TEST(KvPoolTest, AnOddHeadTakesAZeroedElementMoreForItsKeysInPairs) {
  ModelConfig config = Config();
  config.head_dim = 3;
  KvPool pool(config, Dtype::kBfloat16, 1 << 20);
  EXPECT_EQ(pool.block_bytes(), 3 * 2 * kBlockTokens * (4 + 3) * 2);
  FillSlots(pool, 0, kBlockTokens);
  for (int slot = 0; slot < kBlockTokens; ++slot) {
    const uint8_t* pad = pool.Head(0, 2, false, 1) + ((kBlockTokens + slot) * 2 + 1) * 2;
    EXPECT_EQ(pad[0] | pad[1], 0) << slot;
  }
}

}  // namespace
}  // namespace reprise
