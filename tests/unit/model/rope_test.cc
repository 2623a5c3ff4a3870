#include "core/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>

namespace reprise {
namespace {

using Scaling = RopeConfig::Scaling;

// Llama 3.1 8B.
RopeConfig Llama3() {
  RopeConfig rope;
  rope.theta = 500000;
  rope.dimensions = 128;
  rope.scaling = Scaling::kLlama3;
  rope.factor = 8;
  rope.original_context = 8192;
  return rope;
}

// llama.cpp's conversion of the parameters to one factor a pair.
std::vector<float> Llama3Factors(const RopeConfig& rope) {
  std::vector<float> factors;
  for (int i = 0; i < rope.dimensions; i += 2) {
    const double wavelength = 2 * M_PI * std::pow(rope.theta, double(i) / rope.dimensions);
    const double low = rope.original_context / rope.low_frequency_factor;
    const double high = rope.original_context / rope.high_frequency_factor;
    if (wavelength < high) {
      factors.push_back(1);
    } else if (wavelength > low) {
      factors.push_back(static_cast<float>(rope.factor));
    } else {
      const double smooth = (rope.original_context / wavelength - rope.low_frequency_factor) /
                            (rope.high_frequency_factor - rope.low_frequency_factor);
      factors.push_back(static_cast<float>(1 / ((1 - smooth) / rope.factor + smooth)));
    }
  }
  return factors;
}

TEST(RopeTest, FactorsGiveTheFrequenciesOfTheScalingTheyWereMadeFrom) {
  const RopeConfig scaled = Llama3();
  RopeConfig factors = scaled;
  factors.scaling = Scaling::kNone;
  factors.frequency_factors = Llama3Factors(scaled);
  const auto expected = RotaryFrequencies(scaled, 131072);
  const auto actual = RotaryFrequencies(factors, 131072);
  ASSERT_EQ(actual.size(), 64u);
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(actual[i] / expected[i], 1, 1e-7) << i;  // the file keeps floats
  }
  factors.frequency_factors.clear();
  EXPECT_GT(RotaryFrequencies(factors, 131072).back(), expected.back() * 7.9);
}

TEST(RopeTest, ARotationIsAComplexProductOfEachPair) {
  RopeConfig rope;
  rope.dimensions = 6;
  const RotaryTable table(rope, 100);
  const std::vector<float> head = {1, 2, 3, 4, 5, 6, 7, 8};  // two elements are not rotated
  for (const int position : {0, 1, 57, 99}) {
    std::vector<float> rotated = head;
    table.Rotate(rotated.data(), position);
    for (int i = 0; i < 3; ++i) {
      const double angle = position * std::pow(10000.0, -2.0 * i / 6);
      const auto expected = std::complex<double>(head[i], head[i + 3]) * std::polar(1.0, angle);
      EXPECT_NEAR(rotated[i], expected.real(), 1e-5) << position;
      EXPECT_NEAR(rotated[i + 3], expected.imag(), 1e-5) << position;
    }
    EXPECT_EQ(rotated[6], 7);
    EXPECT_EQ(rotated[7], 8);
  }
}

TEST(RopeTest, PositionsReservedLaterRotateLikeThoseMadeAtOnce) {
  RopeConfig rope;
  rope.dimensions = 512;
  constexpr int32_t kContext = 1 << 20;  // most of it is not made at once
  RotaryTable grown(rope, kContext);
  for (const int32_t position : {100, 20000, 20001, 20479, 20480}) {
    grown.Reserve(position + 1);
    std::vector<float> head(512, 1), expected(512, 1);
    grown.Rotate(head.data(), position);
    const auto frequencies = RotaryFrequencies(rope, kContext);
    for (int i = 0; i < 256; ++i) {
      const auto c = static_cast<float>(std::cos(position * frequencies[i]));
      const auto s = static_cast<float>(std::sin(position * frequencies[i]));
      EXPECT_EQ(head[i], c - s) << position;
      EXPECT_EQ(head[i + 256], c + s) << position;
    }
  }
}

TEST(RopeTest, EachScalingChangesTheFrequenciesAsItsNameSays) {
  RopeConfig plain;
  plain.dimensions = 64;
  const auto base = RotaryFrequencies(plain, 4096);
  EXPECT_EQ(base[0], 1.0);
  RopeConfig linear = plain;
  linear.scaling = Scaling::kLinear;
  linear.factor = 4;
  for (size_t i = 0; i < base.size(); ++i) {
    EXPECT_DOUBLE_EQ(RotaryFrequencies(linear, 4096)[i], base[i] / 4);
  }
  // The fastest pair keeps its frequency and the slowest is stretched.
  for (const Scaling scaling : {Scaling::kYarn, Scaling::kLlama3, Scaling::kDynamic}) {
    RopeConfig rope = linear;
    rope.scaling = scaling;
    rope.original_context = 1024;
    const auto scaled = RotaryFrequencies(rope, 4096);
    EXPECT_DOUBLE_EQ(scaled.front(), base.front());
    EXPECT_LT(scaled.back(), base.back() / 3.9);
    EXPECT_EQ(RotaryAttentionFactor(rope) != 1.0, scaling == Scaling::kYarn);
  }
}

}  // namespace
}  // namespace reprise
