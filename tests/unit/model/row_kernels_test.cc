// Kernels of one row, of every instruction set, against libm and plain loops.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/model/kernels.h"
#include "core/model/small_floats.h"

namespace reprise {
namespace {

class RowKernelsTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    kernels_ = SelectKernels(GetParam());
    if (kernels_ == nullptr) GTEST_SKIP() << "not on this CPU";
  }
  const Kernels* kernels_ = nullptr;
};

// Past the range of exp on both sides, in a length that no vector divides.
std::vector<float> Inputs() {
  std::vector<float> inputs = {0.0f, -0.0f, 1e-30f, -1e30f, 1e30f, 87.0f, -87.0f, 88.5f, -88.5f};
  for (int i = -1200; i <= 1200; ++i) inputs.push_back(static_cast<float>(i) * 0.09f);
  return inputs;
}

void ExpectClose(float actual, double expected, float x) {
  EXPECT_NEAR(actual, expected, 1e-6 * std::fabs(expected) + 1e-36) << "of " << x;
}

TEST_P(RowKernelsTest, GeluIsItsTanhApproximation) {
  const std::vector<float> inputs = Inputs();
  std::vector<float> outputs = inputs;
  kernels_->gelu(outputs.data(), outputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const double x = inputs[i];
    const double inner = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
    // The form with exp keeps its digits where tanh is close to -1.
    const double expected = x / (1 + std::exp(-2 * inner));
    if (std::fabs(inner) > 40) continue;  // in float, rounding of the exponent shows
    EXPECT_NEAR(outputs[i], expected, 2e-5 * std::fabs(expected) + 1e-36) << "of " << x;
  }
  EXPECT_EQ(outputs[4], 1e30f);
  EXPECT_NEAR(outputs[3], 0.0f, 1e-8f);
}

TEST_P(RowKernelsTest, SiluMultipliesTheOtherHalf) {
  const std::vector<float> inputs = Inputs();
  std::vector<float> gate = inputs, up(inputs.size());
  for (size_t i = 0; i < up.size(); ++i) up[i] = 0.25f + static_cast<float>(i % 7);
  kernels_->silu_multiply(gate.data(), up.data(), gate.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const double x = inputs[i];
    if (x < -87) {
      EXPECT_NEAR(gate[i], 0, 1e-5) << "of " << x;
      continue;
    }
    ExpectClose(gate[i], x / (1 + std::exp(-x)) * up[i], inputs[i]);
  }
}

TEST_P(RowKernelsTest, RowsAreRoundedToTheKvDtype) {
  const std::vector<float> inputs = Inputs();
  std::vector<uint16_t> halves(inputs.size());
  auto* bytes = reinterpret_cast<uint8_t*>(halves.data());
  kernels_->round_row(Dtype::kBfloat16, inputs.data(), inputs.size(), bytes);
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_EQ(halves[i], ToBfloat16(inputs[i]));
  kernels_->round_row(Dtype::kFloat16, inputs.data(), inputs.size(), bytes);
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_EQ(halves[i], ToFloat16(inputs[i]));
  std::vector<float> copy(inputs.size());
  kernels_->round_row(Dtype::kFloat32, inputs.data(), inputs.size(),
                      reinterpret_cast<uint8_t*>(copy.data()));
  EXPECT_EQ(std::memcmp(copy.data(), inputs.data(), inputs.size() * sizeof(float)), 0);
}

// More blocks than lanes, the last group in part; one block of zeros and one of tiny values.
TEST_P(RowKernelsTest, BlocksAreQuantisedEachByItsLargestMagnitude) {
  constexpr size_t kBlocks = 37, kDepth = kBlocks * kQuantBlock;
  std::vector<float> row(kDepth);
  for (size_t i = 0; i < kDepth; ++i) {
    row[i] = static_cast<float>(static_cast<int>(i * 7919 % 2001) - 1000) * 0.001f *
             static_cast<float>(1 + i / kQuantBlock);
    if (i / kQuantBlock == 5) row[i] = 0;
    if (i / kQuantBlock == 6) row[i] = 1e-35f;
  }
  std::vector<uint8_t> record(InputRowBytes(InputFormat::kInt8Block, kDepth), 0xaa);
  kernels_->prepare_row(InputFormat::kInt8Block, row.data(), kDepth, record.data());
  const QuantizedRow layout(InputFormat::kInt8Block, kDepth);
  for (size_t b = 0; b < kBlocks; ++b) {
    float largest = 0, scale, scaled_sum;
    int32_t start, sum = 0;
    std::memcpy(&scale, record.data() + layout.scales + b * 4, 4);
    std::memcpy(&start, record.data() + layout.starts + b * 4, 4);
    std::memcpy(&scaled_sum, record.data() + layout.scaled_sums + b * 4, 4);
    for (size_t i = 0; i < kQuantBlock; ++i) {
      largest = std::fmax(largest, std::fabs(row[b * kQuantBlock + i]));
    }
    for (size_t i = 0; i < kQuantBlock; ++i) {
      const int value = static_cast<int8_t>(record[b * kQuantBlock + i]);
      sum += value;
      EXPECT_NEAR(static_cast<float>(value) * scale, row[b * kQuantBlock + i],
                  scale * 0.501f + 1e-30f);
    }
    EXPECT_FLOAT_EQ(scale, largest > 1e-30f ? largest / 127 : 0.0f) << b;
    EXPECT_EQ(start, -8 * sum) << b;
    EXPECT_EQ(scaled_sum, scale * static_cast<float>(sum)) << b;
  }
}

INSTANTIATE_TEST_SUITE_P(InstructionSets, RowKernelsTest,
                         ::testing::Values("portable", "avx2", "avx512", "avx512bf16"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace reprise
