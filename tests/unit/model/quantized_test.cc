// Models in quantised formats against the same weights dequantised to fp32.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/model/cpu_runner.h"
#include "core/model/kernels.h"
#include "core/model/packed_matrix.h"
#include "tests/fakes/random_model.h"

namespace reprise {
namespace {

constexpr const char* kInstructionSets[] = {"avx512bf16", "avx512", "avx2", "portable"};

struct Case {
  const char* name;
  StorageType storage;
  WeightChoice choice;
  WeightFormat format;
};

class QuantizedTest : public ::testing::TestWithParam<Case> {
 protected:
  LoadedModel Model() {
    return RandomModelBuilder(Architecture::kLlama, GetParam().storage).Build();
  }
  ThreadPool pool_{1, [] {}};
  WeightArena arena_;
};

// Bound on what quantising the input of one product may change: each value is off by
// at most half a step of its block, a step being at most the row's largest value / 127.
// int8 weights, one scale for a row, are off by half a step of their own too.
TEST_P(QuantizedTest, ProductsAreWithinTheInputsRounding) {
  const LoadedModel model = Model();
  const WeightTensor& tensor = **model.weights->Find("layers.0.mlp.down.weight");
  const PackedMatrix packed = PackedMatrix::Pack({&tensor}, GetParam().format, arena_, pool_);
  const size_t depth = packed.depth(), features = packed.features();
  std::vector<float> weights(features * depth), x(depth);
  for (size_t n = 0; n < features; ++n) packed.GetRow(n, weights.data() + n * depth);
  std::mt19937 random(5);
  for (float& value : x) value = std::normal_distribution<float>()(random);
  const float step =
      std::fabs(*std::max_element(x.begin(), x.end(),
                                  [](float a, float b) { return std::fabs(a) < std::fabs(b); })) /
      127;
  std::vector<float> first;
  for (const char* name : kInstructionSets) {
    const Kernels* kernels = SelectKernels(name);
    if (kernels == nullptr) continue;
    const InputFormat format = kernels->input_format(GetParam().format);
    std::vector<uint8_t> record(InputRowBytes(format, depth));
    kernels->prepare_row(format, x.data(), depth, record.data());
    std::vector<float> y(features);
    for (size_t panel = 0; panel < packed.panels(); ++panel) {
      PanelProduct product = packed.Product(panel);
      product.x = record.data();
      product.x_stride = record.size();
      product.rows = 1;
      product.y = y.data() + panel * kPanelColumns;
      product.y_stride = features;
      kernels->multiply_panel(product);
    }
    for (size_t n = 0; n < features; ++n) {
      double exact = 0, magnitude = 0;
      for (size_t k = 0; k < depth; ++k) {
        exact += double{x[k]} * weights[n * depth + k];
        magnitude += std::fabs(weights[n * depth + k]);
      }
      ASSERT_NEAR(y[n], exact, 0.5 * step * magnitude * 1.001) << name << " feature " << n;
    }
    // Integer sums are exact, so instruction sets differ by a fused operation at most.
    if (first.empty()) first = y;
    for (size_t n = 0; n < features; ++n) ASSERT_NEAR(y[n], first[n], 1e-4) << name << " " << n;
  }
}

TEST_P(QuantizedTest, PackedRowsAreTheDequantisedOnes) {
  const LoadedModel model = Model();
  const WeightTensor& tensor = **model.weights->Find("layers.1.attention.k.weight");
  const PackedMatrix packed = PackedMatrix::Pack({&tensor}, GetParam().format, arena_, pool_);
  std::vector<float> expected(packed.depth()), row(packed.depth());
  for (size_t n = 0; n < packed.features(); ++n) {
    DequantizeRows(tensor, static_cast<int64_t>(n), 1, absl::MakeSpan(expected));
    packed.GetRow(n, row.data());
    float largest = 0;
    for (const float value : expected) largest = std::max(largest, std::fabs(value));
    const float step = GetParam().format == WeightFormat::kInt8 ? largest / 127 : 0;
    for (size_t k = 0; k < row.size(); ++k) {
      ASSERT_NEAR(row[k], expected[k], step * 0.501) << "feature " << n << " k " << k;
    }
  }
}

// Relative to the logits' own spread; a wrong scale, nibble or minimum is off by about 1.
TEST_P(QuantizedTest, LogitsAreNearThoseOfTheDequantisedWeights) {
  const LoadedModel model = Model();
  std::vector<TokenId> tokens(40);
  std::iota(tokens.begin(), tokens.end(), 100);
  std::vector<std::vector<float>> logits;
  for (const WeightChoice choice : {WeightChoice::kFp32, GetParam().choice}) {
    CpuRunnerOptions options;
    options.num_threads = 1;
    options.weights = choice;
    options.kv_dtype = Dtype::kFloat32;
    options.kv_pool_bytes = int64_t{8} << 20;
    auto runner = CreateCpuRunner(model, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    std::vector<BlockId> table = {0, 1, 2};
    StepSequence s;
    s.tokens = tokens;
    s.block_table = table;
    s.want_logits = true;
    auto result = (*runner)->Step({{s}});
    ASSERT_TRUE(result.ok()) << result.status();
    logits.push_back(std::move(result->logits[0]));
  }
  double error = 0, spread = 0;
  for (size_t i = 0; i < logits[0].size(); ++i) {
    error += std::pow(logits[0][i] - logits[1][i], 2);
    spread += std::pow(logits[0][i], 2);
  }
  EXPECT_GT(error, 0);
  EXPECT_LE(std::sqrt(error / spread), 0.05);
}

INSTANTIATE_TEST_SUITE_P(
    All, QuantizedTest,
    ::testing::Values(
        Case{"Int8", StorageType::kF32, WeightChoice::kInt8, WeightFormat::kInt8},
        Case{"Q8_0", StorageType::kQ8_0, WeightChoice::kAsStored, WeightFormat::kQ8_0},
        Case{"Q4_0", StorageType::kQ4_0, WeightChoice::kAsStored, WeightFormat::kQ4_0},
        Case{"Q4_1", StorageType::kQ4_1, WeightChoice::kAsStored, WeightFormat::kQ4_1},
        Case{"Q4_K", StorageType::kQ4_K, WeightChoice::kAsStored, WeightFormat::kQ4_K}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace reprise
