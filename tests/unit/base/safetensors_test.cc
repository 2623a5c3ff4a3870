#include "core/base/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A file of `header` and `data_bytes` bytes 0, 1, 2…; its size field may lie.
std::string File(const std::string& header, int data_bytes, int64_t claimed = -1) {
  const uint64_t size = claimed >= 0 ? static_cast<uint64_t>(claimed) : header.size();
  std::string file(sizeof(size), '\0');
  std::memcpy(file.data(), &size, sizeof(size));
  file += header;
  for (int i = 0; i < data_bytes; ++i) file.push_back(static_cast<char>(i));
  return file;
}

std::string Tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return absl::StrCat("{\"dtype\":\"", dtype, "\",\"shape\":", shape, ",\"data_offsets\":", offsets,
                      "}");
}

TEST(SafetensorsTest, ReadsTensorsAndLeavesOtherDtypesOut) {
  const std::string file = File(
      absl::StrCat("{\"__metadata__\":{\"format\":\"pt\"},\"a\":", Tensor("F32", "[2,1]", "[0,8]"),
                   ",\"b\":", Tensor("BF16", "[3]", "[8,14]"),
                   ",\"mask\":", Tensor("I64", "[1]", "[16,24]"),
                   ",\"scalar\":", Tensor("F16", "[]", "[14,16]"), "}"),
      24);
  const auto tensors = ParseSafetensors(AsBytes(file));
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 3u);
  EXPECT_EQ((*tensors)[0].name, "a");
  EXPECT_EQ((*tensors)[0].type, SafetensorsType::kF32);
  EXPECT_THAT((*tensors)[0].shape, ElementsAre(2, 1));
  EXPECT_THAT((*tensors)[0].bytes, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_EQ((*tensors)[1].type, SafetensorsType::kBF16);
  EXPECT_THAT((*tensors)[1].bytes, ElementsAre(8, 9, 10, 11, 12, 13));
  EXPECT_EQ((*tensors)[2].type, SafetensorsType::kF16);
  EXPECT_THAT((*tensors)[2].shape, ElementsAre());
}

TEST(SafetensorsTest, RefusesAHeaderThatDoesNotFit) {
  const std::string header = absl::StrCat("{\"a\":", Tensor("F32", "[1]", "[0,4]"), "}");
  const auto size = static_cast<int64_t>(header.size());
  const std::pair<std::string, const char*> cases[] = {
      {"", "truncated"},
      {"1234567", "truncated"},
      {File(header, 4, size + 5), "truncated"},
      {File(header, 4, INT64_MAX), "the limit is 104857600"},
      {File(header, 4, 0), "malformed"},
      {File(header, 4, size - 1), "malformed"},
      {File("[1]", 4), "expected an object"},
      {File(std::string(200, '['), 4), "deeper than 64"},
      {File("{\"a\":1,\"a\":2}", 4), "a: key given twice"},
  };
  for (const auto& [file, problem] : cases) {
    const auto tensors = ParseSafetensors(AsBytes(file));
    EXPECT_EQ(tensors.status().code(), absl::StatusCode::kInvalidArgument) << problem;
    EXPECT_THAT(tensors.status().message(), HasSubstr(problem));
  }
}

TEST(SafetensorsTest, RefusesATensorThatLiesAndNamesIt) {
  const std::pair<std::string, const char*> cases[] = {
      {"1", "lie"},
      {"{\"shape\":[1],\"data_offsets\":[0,4]}", "dtype"},
      {"{\"dtype\":\"F32\",\"data_offsets\":[0,4]}", "shape"},
      {"{\"dtype\":\"F32\",\"shape\":[1]}", "data_offsets"},
      {"{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}", "dtype"},
      {Tensor("F32", "[1]", "[0,12]"), "the 8 data bytes"},
      {Tensor("F32", "[1]", "[4,0]"), "the 8 data bytes"},
      {Tensor("F32", "[1]", "[-4,0]"), "the 8 data bytes"},
      {Tensor("F32", "[1]", "[0]"), "data_offsets"},
      {Tensor("F32", "[1]", "[0,4,8]"), "data_offsets"},
      {Tensor("F32", "[1]", "[0,9223372036854775807]"), "data_offsets"},
      {Tensor("F32", "[1]", "[0,18446744073709551615]"), "data_offsets[1]"},
      {Tensor("F32", "[1]", "[0.5,4]"), "data_offsets[0]"},
      {Tensor("F32", "[1]", "\"04\""), "data_offsets"},
      {Tensor("F32", "[2]", "[0,4]"), "4 bytes"},
      {Tensor("F32", "[0]", "[0,0]"), "0 bytes"},
      {Tensor("F32", "[-1]", "[0,4]"), "4 bytes"},
      {Tensor("F32", "[-1,-1]", "[0,4]"), "4 bytes"},
      {Tensor("F16", "[9223372036854775807,9223372036854775807]", "[0,2]"), "2 bytes"},
      {Tensor("F32", "[4611686018427387905]", "[0,4]"), "4 bytes"},
      {Tensor("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), "at most 8"},
      {Tensor("F32", "{}", "[0,4]"), "shape"},
  };
  for (const auto& [tensor, problem] : cases) {
    const std::string file = File(absl::StrCat("{\"lie\":", tensor, "}"), 8);
    const auto tensors = ParseSafetensors(AsBytes(file));
    EXPECT_EQ(tensors.status().code(), absl::StatusCode::kInvalidArgument) << tensor;
    EXPECT_THAT(tensors.status().message(), AllOf(HasSubstr("lie"), HasSubstr(problem))) << tensor;
  }
}

TEST(SafetensorsTest, RefusesOverlapWithATensorOfAnyDtype) {
  for (const char* dtype : {"F32", "I64"}) {
    const std::string file = File(absl::StrCat("{\"a\":", Tensor("F32", "[1]", "[4,8]"),
                                               ",\"b\":", Tensor(dtype, "[2]", "[0,8]"), "}"),
                                  8);
    const auto tensors = ParseSafetensors(AsBytes(file));
    EXPECT_EQ(tensors.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(tensors.status().message(),
                AllOf(HasSubstr("overlaps"), HasSubstr("a"), HasSubstr("b")));
  }
}

TEST(SafetensorsTest, RefusesEveryTruncation) {
  const std::string whole = File(absl::StrCat("{\"a\":", Tensor("F32", "[2]", "[0,8]"), "}"), 8);
  ASSERT_TRUE(ParseSafetensors(AsBytes(whole)).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(ParseSafetensors(AsBytes(whole.substr(0, size))).status().code(),
              absl::StatusCode::kInvalidArgument)
        << size;
  }
}

}  // namespace
}  // namespace reprise
