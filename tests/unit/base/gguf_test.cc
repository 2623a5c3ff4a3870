#include "core/base/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Value types by the format's numbers.
constexpr uint32_t kUint8 = 0, kInt8 = 1, kUint16 = 2, kInt16 = 3, kUint32 = 4, kInt32 = 5,
                   kFloat32 = 6, kBool = 7, kString = 8, kArray = 9, kUint64 = 10, kInt64 = 11,
                   kFloat64 = 12;
constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

// Writes a GGUF file field by field, so that any field can lie.
class Builder {
 public:
  explicit Builder(uint64_t tensors = 0, uint64_t metadata = 0, uint32_t version = 3) {
    Raw("GGUF").Put(version).Put(tensors).Put(metadata);
  }

  template <typename T>
  Builder& Put(T value) {
    return Raw(absl::string_view(reinterpret_cast<const char*>(&value), sizeof(value)));
  }
  Builder& Raw(absl::string_view bytes) {
    absl::StrAppend(&bytes_, bytes);
    return *this;
  }
  Builder& Text(absl::string_view text) { return Put(uint64_t{text.size()}).Raw(text); }

  template <typename T>
  Builder& Key(absl::string_view key, uint32_t type, T value) {
    return Text(key).Put(type).Put(value);
  }
  Builder& ArrayKey(absl::string_view key, uint32_t type, uint64_t count) {
    return Text(key).Put(kArray).Put(type).Put(count);
  }

  Builder& Tensor(absl::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                  uint64_t offset) {
    Text(name).Put(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) Put(dim);
    return Put(type).Put(offset);
  }

  Builder& Data(size_t size, size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    for (size_t i = 0; i < size; ++i) bytes_.push_back(static_cast<char>(i));
    return *this;
  }

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// The error names `where` (a key, a tensor or the header) and `problem`.
void ExpectRefused(const Builder& builder, absl::string_view where, absl::string_view problem) {
  const auto file = ParseGguf(AsBytes(builder.bytes()));
  EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument) << where << " " << problem;
  EXPECT_THAT(std::string(file.status().message()),
              AllOf(HasSubstr(std::string(where)), HasSubstr(std::string(problem))));
}

class GgufVersionTest : public ::testing::TestWithParam<uint32_t> {};

TEST_P(GgufVersionTest, ReadsMetadataAndTensors) {
  Builder builder(2, 14, GetParam());
  builder.Key("u8", kUint8, uint8_t{255}).Key("i8", kInt8, int8_t{-1});
  builder.Key("u16", kUint16, uint16_t{65535}).Key("i16", kInt16, int16_t{-2});
  builder.Key("u32", kUint32, uint32_t{4294967295}).Key("i32", kInt32, int32_t{-3});
  builder.Key("u64", kUint64, uint64_t{INT64_MAX}).Key("i64", kInt64, int64_t{INT64_MIN});
  builder.Key("f32", kFloat32, 0.5f).Key("f64", kFloat64, -0.25);
  builder.Key("yes", kBool, uint8_t{1}).Text("text").Put(kString).Text("hé");
  builder.ArrayKey("list", kString, 2).Text("a").Text("");
  builder.ArrayKey("none", kUint8, 0);
  builder.Tensor("first", {2, 3}, 0, 0).Tensor("second", {32, 1, 1, 2}, 8, 32).Data(32 + 68);
  const auto file = ParseGguf(AsBytes(builder.bytes()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->version, GetParam());
  const std::pair<const char*, int64_t> integers[] = {
      {"u8", 255},         {"i8", -1},  {"u16", 65535},     {"i16", -2},
      {"u32", 4294967295}, {"i32", -3}, {"u64", INT64_MAX}, {"i64", INT64_MIN}};
  for (const auto& [key, value] : integers) EXPECT_EQ(*file->Int(key), value) << key;
  EXPECT_EQ(*file->Double("f32"), 0.5);
  EXPECT_EQ(*file->Double("f64"), -0.25);
  EXPECT_EQ(*file->Double("i32"), -3.0);
  EXPECT_TRUE(*file->Bool("yes"));
  EXPECT_EQ(*file->String("text"), "hé");
  EXPECT_THAT(**file->Strings("list"), ElementsAre("a", ""));
  EXPECT_TRUE((*file->Ints("none"))->empty());
  ASSERT_EQ(file->tensors.size(), 2u);
  EXPECT_EQ(file->tensors[0].name, "first");
  EXPECT_THAT(file->tensors[0].dims, ElementsAre(2, 3));
  EXPECT_EQ(file->tensors[0].bytes.size(), 24u);
  EXPECT_EQ(file->tensors[1].type, GgmlType::kQ8_0);
  EXPECT_EQ(file->tensors[1].bytes.size(), 68u);
  EXPECT_EQ(file->tensors[1].bytes[0], 32);
}

INSTANTIATE_TEST_SUITE_P(All, GgufVersionTest, ::testing::Values(2, 3));

TEST(GgufTest, RefusesOtherFilesAndVersions) {
  for (const uint32_t version : {0u, 1u, 4u, 0x03000000u}) {
    ExpectRefused(Builder(0, 0, version), "header", absl::StrCat("version ", version));
  }
  const auto other = ParseGguf(AsBytes("GGML and so on, long enough for a header"));
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("wrong magic"));
}

TEST(GgufTest, RefusesEveryTruncation) {
  Builder builder(1, 2);
  builder.Key("general.alignment", kUint32, uint32_t{32}).ArrayKey("list", kString, 1).Text("abc");
  builder.Tensor("t", {3}, 0, 0).Data(12);
  ASSERT_TRUE(ParseGguf(AsBytes(builder.bytes())).ok());
  for (size_t size = 0; size < builder.bytes().size(); ++size) {
    EXPECT_EQ(ParseGguf(AsBytes(builder.bytes().substr(0, size))).status().code(),
              absl::StatusCode::kInvalidArgument)
        << size;
  }
}

TEST(GgufTest, RefusesCountsThatLie) {
  ExpectRefused(Builder(0, 1), "metadata key \"#0\"", "truncated");
  ExpectRefused(Builder(0, kHuge), "metadata key \"#0\"", "truncated");
  ExpectRefused(Builder(1, 0), "tensor \"#0\"", "truncated");
  ExpectRefused(Builder(kHuge, 0), "tensor \"#0\"", "truncated");
  ExpectRefused(Builder(0, 2).Key("a", kUint8, uint8_t{1}), "metadata key \"#1\"", "truncated");
}

TEST(GgufTest, RefusesMetadataThatLiesAndNamesTheKey) {
  const auto one = [] { return Builder(0, 1); };
  ExpectRefused(one().Text(""), "\"#0\"", "a name of 0 bytes");
  ExpectRefused(one().Text(std::string(1025, 'k')), "\"#0\"", "the limit is 1 to 1024");
  ExpectRefused(one().Put(kHuge), "\"#0\"", "truncated");
  ExpectRefused(one().Text("k"), "\"k\"", "truncated");
  ExpectRefused(one().Text("k").Put(13u), "\"k\"", "unknown value type 13");
  ExpectRefused(one().Text("k").Put(0xFFFFFFFFu), "\"k\"", "unknown value type");
  ExpectRefused(one().Text("k").Put(kString).Put(kHuge), "\"k\"", "truncated");
  ExpectRefused(one().Key("k", kBool, uint8_t{2}), "\"k\"", "bool of value 2");
  ExpectRefused(one().Key("k", kUint64, kHuge), "\"k\"", "exceeds 2^63 - 1");
  ExpectRefused(Builder(0, 2).Key("k", kUint8, uint8_t{1}).Key("k", kBool, uint8_t{1}), "\"k\"",
                "appears twice");
}

TEST(GgufTest, RefusesArraysThatLieBeforeTheirMemoryIsTaken) {
  for (const uint32_t type : {kUint8, kInt16, kFloat32, kBool, kString, kUint64, kFloat64}) {
    for (const uint64_t count : {uint64_t{9}, uint64_t{1} << 40, uint64_t{1} << 62, kHuge}) {
      Builder builder(0, 1);
      builder.ArrayKey("huge", type, count).Raw("8 bytes.");
      ExpectRefused(builder, "\"huge\"", absl::StrCat("array of ", count, " elements"));
    }
  }
}

TEST(GgufTest, RefusesArraysInArraysHoweverDeep) {
  Builder builder(0, 1);
  builder.Text("deep").Put(kArray);
  for (int i = 0; i < 100000; ++i) builder.Put(kArray).Put(uint64_t{1});
  ExpectRefused(builder, "\"deep\"", "unknown value type 9");
}

TEST(GgufTest, RefusesAnAlignmentThatIsNone) {
  for (const uint32_t alignment : {0u, 3u, 33u, 1u << 21}) {
    ExpectRefused(Builder(0, 1).Key("general.alignment", kUint32, alignment), "general.alignment",
                  absl::StrCat(alignment, " is not a power of two"));
  }
  ExpectRefused(Builder(0, 1).Key("general.alignment", kInt32, -32), "general.alignment", "-32");
  ExpectRefused(Builder(0, 1).Text("general.alignment").Put(kString).Text("32"),
                "general.alignment", "not an integer");
}

TEST(GgufTest, TensorDataBeginsAtTheFilesOwnAlignment) {
  Builder builder(1, 1);
  builder.Key("general.alignment", kUint32, uint32_t{256}).Tensor("t", {1}, 0, 256);
  builder.Data(256 + 4, 256);
  const auto file = ParseGguf(AsBytes(builder.bytes()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->tensors[0].bytes, ElementsAre(0, 1, 2, 3));
}

TEST(GgufTest, RefusesTensorsThatLieAndNamesThem) {
  struct Case {
    std::vector<uint64_t> dims;
    uint32_t type;
    uint64_t offset;
    const char* problem;
  };
  const uint64_t big = uint64_t{1} << 62;
  const Case cases[] = {
      {{}, 0, 0, "0 dimensions"},
      {{1, 1, 1, 1, 1}, 0, 0, "5 dimensions"},
      {{0}, 0, 0, "dimension 0 is 0"},
      {{4, 0}, 0, 0, "dimension 1 is 0"},
      {{kHuge}, 0, 0, "exceeds 2^63 - 1"},
      {{big, 2}, 0, 0, "overflows"},
      {{big}, 0, 0, "overflows"},
      {{16}, 0, 32, "passes the 64 bytes"},
      {{17}, 0, 0, "passes the 64 bytes"},
      {{1}, 0, 96, "passes the 64 bytes"},
      {{1}, 0, kHuge - 31, "passes the 64 bytes"},
      {{1}, 0, 4, "not a multiple of 32"},
      {{33}, 8, 0, "not whole 32-element blocks"},
      {{128, 2}, 12, 0, "not whole 256-element blocks"},
      {{1}, 4, 0, "unsupported element type 4"},
      {{1}, 31, 0, "unsupported element type 31"},
      {{1}, 0xFFFFFFFF, 0, "unsupported element type"},
  };
  for (const Case& c : cases) {
    ExpectRefused(Builder(1).Tensor("blk.0.lie", c.dims, c.type, c.offset).Data(64),
                  "tensor \"blk.0.lie\"", c.problem);
  }
  ExpectRefused(Builder(1).Text("lie").Put(0xFFFFFFFFu), "tensor \"lie\"", "4294967295 dimensions");
  ExpectRefused(Builder(1).Tensor("", {1}, 0, 0).Data(64), "tensor \"#0\"", "a name of 0 bytes");
}

TEST(GgufTest, KnowsTheSizeOfEachElementType) {
  const std::pair<uint32_t, size_t> bytes_of_256[] = {{0, 1024}, {1, 512},  {30, 512}, {2, 144},
                                                      {3, 160},  {6, 176},  {7, 192},  {8, 272},
                                                      {12, 144}, {13, 176}, {14, 210}};
  for (const auto& [type, size] : bytes_of_256) {
    Builder builder(1);
    builder.Tensor("t", {256}, type, 0).Data(size);
    const auto file = ParseGguf(AsBytes(builder.bytes()));
    ASSERT_TRUE(file.ok()) << type << file.status();
    EXPECT_EQ(file->tensors[0].bytes.size(), size) << type;
    ExpectRefused(Builder(1).Tensor("t", {256}, type, 0).Data(size - 1), "\"t\"", "passes");
  }
}

TEST(GgufTest, RefusesTensorsWithOneNameOrOnePlace) {
  ExpectRefused(Builder(2).Tensor("a", {1}, 0, 0).Tensor("a", {1}, 0, 32).Data(64), "\"a\"",
                "appears twice");
  ExpectRefused(Builder(2).Tensor("a", {9}, 0, 0).Tensor("b", {1}, 0, 32).Data(64), "\"b\"",
                "overlaps tensor \"a\"");
  ExpectRefused(Builder(2).Tensor("a", {1}, 0, 32).Tensor("b", {16}, 0, 0).Data(64), "\"a\"",
                "overlaps tensor \"b\"");
  ExpectRefused(Builder(2).Tensor("a", {1}, 0, 0).Tensor("b", {1}, 0, 0).Data(64), "tensor",
                "overlaps");
}

TEST(GgufTest, LookUpsNameTheKeyTheyMissOrMistype) {
  Builder builder(0, 2);
  builder.Text("s").Put(kString).Text("x").Key("n", kFloat32, 1.5f);
  const auto file = ParseGguf(AsBytes(builder.bytes()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->Int("absent").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(file->Strings("absent").status().message()), HasSubstr("\"absent\""));
  const absl::Status mistyped[] = {file->Int("s").status(),        file->Double("s").status(),
                                   file->Bool("s").status(),       file->Ints("s").status(),
                                   file->Strings("s").status(),    file->Doubles("s").status(),
                                   file->IntOr("s", 1).status(),   file->BoolOr("s", true).status(),
                                   file->DoubleOr("s", 1).status()};
  for (const absl::Status& status : mistyped) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("\"s\""));
  }
  EXPECT_EQ(file->StringOr("n", "").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(*file->IntOr("absent", 5), 5);
  EXPECT_EQ(*file->StringOr("absent", "d"), "d");
}

}  // namespace
}  // namespace reprise
