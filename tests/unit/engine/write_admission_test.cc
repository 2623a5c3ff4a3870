#include "core/engine/write_admission.h"

#include <gtest/gtest.h>

namespace reprise {
namespace {

using Decision = WriteAdmission::Decision;

constexpr absl::Duration kShort = absl::Milliseconds(1), kLong = absl::Milliseconds(9);

SegmentKey Key(uint32_t number) {
  SegmentKey key{};
  std::memcpy(key.data(), &number, sizeof(number));
  return key;
}

TEST(WriteAdmissionTest, AFirstUseWaitsASecondDoesNotAndWhatLoadsNoFasterIsNeverWritten) {
  WriteAdmission admission;
  EXPECT_EQ(admission.Decide(Key(1), kLong, kShort), Decision::kWhenIdle);
  EXPECT_EQ(admission.Decide(Key(2), kLong, kShort), Decision::kWhenIdle);
  EXPECT_EQ(admission.Decide(Key(1), kLong, kShort), Decision::kNow);
  EXPECT_EQ(admission.Decide(Key(1), kShort, kShort), Decision::kNever);
  EXPECT_EQ(admission.Decide(Key(3), kShort, kLong), Decision::kNever);
}

TEST(WriteAdmissionTest, RemembersRecentUsesAndForgetsOldOnes) {
  WriteAdmission admission;
  for (uint32_t i = 0; i < 200000; ++i) admission.Decide(Key(i), kLong, kShort);
  EXPECT_EQ(admission.Decide(Key(190000), kLong, kShort), Decision::kNow);
  EXPECT_EQ(admission.Decide(Key(1), kLong, kShort), Decision::kWhenIdle);
}

TEST(WriteAdmissionTest, WhatWaitsComesInOrderAndTheOldestGivesWay) {
  WriteAdmission admission;
  EXPECT_TRUE(admission.Defer({1}));
  EXPECT_TRUE(admission.Defer({2}));
  EXPECT_EQ(admission.TakeDeferred(), std::vector<TokenId>{1});
  EXPECT_EQ(admission.TakeDeferred(), std::vector<TokenId>{2});
  EXPECT_EQ(admission.TakeDeferred(), std::nullopt);
  int gone = 0;
  for (TokenId i = 0; i < 5; ++i) gone += !admission.Defer(std::vector<TokenId>(1 << 20, i));
  EXPECT_EQ(gone, 1);
  EXPECT_EQ(admission.num_deferred(), 4u);
  EXPECT_EQ(admission.TakeDeferred()->front(), 1);
}

}  // namespace
}  // namespace reprise
