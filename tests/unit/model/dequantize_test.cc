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

// Sizes that no tile divides, and a slice of the columns of a wider matrix.
TEST(WeightTensorTest, AMatrixThatLiesTransposedReadsAsItsRows) {
  constexpr int64_t kRows = 70, kColumns = 67, kStride = 100, kSkipped = 13;
  for (const StorageType type : {StorageType::kF32, StorageType::kF16, StorageType::kBF16}) {
    const int64_t element = *RowBytes(type, 1);
    std::vector<uint8_t> plain(kRows * kColumns * element), wide(kColumns * kStride * element);
    for (int64_t i = 0; i < kRows * kColumns; ++i) {
      const int64_t at = i % kColumns * kStride + kSkipped + i / kColumns;
      for (int64_t byte = 0; byte < element; ++byte) {
        const auto value = static_cast<uint8_t>(byte + 1 == element ? 60 : i * 7 + byte * 31);
        plain[i * element + byte] = wide[at * element + byte] = value;
      }
    }
    WeightTensor rows{"w", type, {kRows, kColumns}, ByteView(plain)}, transposed = rows;
    transposed.bytes = ByteView(wide).subspan(kSkipped * element);
    transposed.transposed_stride = kStride;
    std::vector<float> expected(50 * kColumns), values(50 * kColumns);
    DequantizeRows(rows, 17, 50, absl::MakeSpan(expected));
    DequantizeRows(transposed, 17, 50, absl::MakeSpan(values));
    EXPECT_EQ(values, expected) << StorageTypeName(type);
    const auto digest = [](WeightTensor tensor) {
      return WeightFile({}, {}, {std::move(tensor)}).ContentDigest();
    };
    EXPECT_EQ(digest(transposed), digest(rows)) << StorageTypeName(type);
    plain[5] ^= 1;
    EXPECT_NE(digest(transposed), digest(rows)) << StorageTypeName(type);
  }
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
