// The kernels behind a product agree in every bit.
#include "core/model/cuda/product.cuh"

#include <gtest/gtest.h>

#include "tests/cuda/product_problem.h"

namespace reprise::cuda {
namespace {

constexpr HalfType kBf16 = HalfType::kBf16;
constexpr ProductShape kShapes[] = {{"Square", 1024, 1024, 200, Epilogue::kStore},
                                    {"Deep", 192, 4096, 129, Epilogue::kAdd},
                                    {"DeepBf16", 128, 2048, 320, Epilogue::kAdd, kBf16},
                                    {"Gelu", 256, 768, 257, Epilogue::kGelu},
                                    {"GatedSilu", 256, 512, 190, Epilogue::kGatedSilu},
                                    {"GatedGeluBf16", 320, 576, 140, Epilogue::kGatedGelu, kBf16},
                                    {"OddSteps", 130, 736, 150, Epilogue::kStore},
                                    {"LongSlices", 64, 5632, 131, Epilogue::kStore, kBf16},
                                    {"OneStep", 16, 32, 129, Epilogue::kAdd}};

class ProductTest : public ::testing::TestWithParam<ProductShape> {};

TEST_P(ProductTest, EveryKernelGivesTheSameBits) {
  ProductProblem problem(GetParam());
  const auto thin = problem.Run(
      RowOrder::kRows, [](const ProductArgs& args) { return LaunchThinProduct(args, nullptr); });
  ASSERT_FALSE(thin.empty());
  const auto wide = problem.Run(
      RowOrder::kRows, [](const ProductArgs& args) { return LaunchWideProduct(args, nullptr); });
  EXPECT_TRUE(wide == thin);
  bool has_tiles = false;
  ASSERT_EQ(HasTileProducts(&has_tiles), cudaSuccess);
  if (!has_tiles) return;
  for (int shape = 0; shape < kTileShapes; ++shape) {
    const auto tiles = problem.Run(RowOrder::kTiles, [shape](const ProductArgs& args) {
      return LaunchTileProductOf(shape, args, nullptr);
    });
    ASSERT_EQ(tiles.size(), thin.size()) << "shape " << shape;
    size_t differing = 0;
    for (size_t i = 0; i < thin.size(); ++i) differing += tiles[i] == thin[i] ? 0 : 1;
    EXPECT_EQ(differing, size_t{0}) << "of " << thin.size() << ", shape " << shape;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ProductTest, ::testing::ValuesIn(kShapes),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace reprise::cuda
