// Dequantised values against those of the gguf Python package, bit for bit.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/gguf.h"
#include "core/base/mapped_file.h"
#include "core/model/weights.h"
#include "tests/golden/golden_file.h"

namespace reprise {
namespace {

struct Case {
  const char* name;
  StorageType type;
};

class DequantizeTest : public ::testing::TestWithParam<Case> {};

TEST_P(DequantizeTest, EqualsTheGgufPackage) {
  const auto map = MappedFile::Open(GoldenPath("quantization/types.gguf"));
  ASSERT_TRUE(map.ok()) << map.status();
  const auto file = ParseGguf((*map)->bytes());
  ASSERT_TRUE(file.ok()) << file.status();
  const auto found =
      std::find_if(file->tensors.begin(), file->tensors.end(),
                   [&](const GgufTensor& tensor) { return tensor.name == GetParam().name; });
  ASSERT_NE(found, file->tensors.end());
  const WeightTensor tensor{
      GetParam().name, GetParam().type, {found->dims.rbegin(), found->dims.rend()}, found->bytes};
  const auto expected = ReadGolden<float>(std::string("quantization/") + GetParam().name + ".bin");
  std::vector<float> values(tensor.rows() * tensor.columns());
  // Row by row: each must start where its blocks do.
  for (int64_t row = 0; row < tensor.rows(); ++row) {
    DequantizeRows(tensor, row, 1,
                   absl::MakeSpan(values).subspan(row * tensor.columns(), tensor.columns()));
  }
  EXPECT_EQ(values, expected);
}

INSTANTIATE_TEST_SUITE_P(
    All, DequantizeTest,
    ::testing::Values(Case{"F32", StorageType::kF32}, Case{"F16", StorageType::kF16},
                      Case{"BF16", StorageType::kBF16}, Case{"Q8_0", StorageType::kQ8_0},
                      Case{"Q4_0", StorageType::kQ4_0}, Case{"Q4_1", StorageType::kQ4_1},
                      Case{"Q5_0", StorageType::kQ5_0}, Case{"Q5_1", StorageType::kQ5_1},
                      Case{"Q4_K", StorageType::kQ4_K}, Case{"Q5_K", StorageType::kQ5_K},
                      Case{"Q6_K", StorageType::kQ6_K}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace reprise
