#include "core/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

JsonValue Parsed(absl::string_view text) {
  auto value = JsonValue::Parse(text);
  EXPECT_TRUE(value.ok()) << value.status() << " " << text;
  return *std::move(value);
}

// The member "v" of {"v": TEXT}.
JsonValue Member(absl::string_view text) {
  return *Parsed(absl::StrCat("{\"v\":", text, "}")).Get("v");
}

template <typename T>
std::string ErrorOf(const absl::StatusOr<T>& value) {
  EXPECT_EQ(value.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(value.status().message());
}

TEST(JsonTest, ReadsEachKind) {
  EXPECT_EQ(Parsed("null").kind(), JsonValue::Kind::kNull);
  EXPECT_EQ(Parsed("true").kind(), JsonValue::Kind::kBool);
  EXPECT_EQ(Parsed("-1.5").kind(), JsonValue::Kind::kNumber);
  EXPECT_EQ(Parsed("\"x\"").kind(), JsonValue::Kind::kString);
  EXPECT_EQ(Parsed("[]").kind(), JsonValue::Kind::kArray);
  EXPECT_EQ(Parsed("{}").kind(), JsonValue::Kind::kObject);
  EXPECT_TRUE(*Parsed("true").AsBool());
  EXPECT_EQ(*Parsed("-1.5").AsDouble(), -1.5);
  EXPECT_EQ(*Parsed("\"\\u00e9\\ud83d\\ude00\"").AsString(), "é😀");
  EXPECT_EQ(Parsed("[1,2,3]").size(), 3u);
  EXPECT_EQ(Parsed("7").size(), 0u);
  EXPECT_THAT(*Parsed("{\"b\":1,\"a\":2}").Keys(), ElementsAre("a", "b"));
}

TEST(JsonTest, RefusesMalformedText) {
  for (const char* text :
       {"", " ", "{", "[1,]", "{\"a\":}", "{\"a\" 1}", "tru", "1 2", "{} x", "'a'", "\"\x01\"",
        "\"\xff\"", "\"\xed\xa0\x80\"", "\"\\ud800\"", "[1e999]", "01", "NaN", "// c\n1"}) {
    EXPECT_THAT(ErrorOf(JsonValue::Parse(text)), HasSubstr("malformed JSON")) << text;
  }
}

TEST(JsonTest, RefusesNestingPastSixtyFour) {
  for (const auto& [open, close] : {std::pair("[", "]"), std::pair("{\"a\":[", "]}")}) {
    const int depth = open[0] == '[' ? 64 : 32;
    EXPECT_TRUE(JsonValue::Parse(Repeat(open, depth) + Repeat(close, depth)).ok());
    EXPECT_THAT(ErrorOf(JsonValue::Parse(Repeat(open, depth + 1) + Repeat(close, depth + 1))),
                HasSubstr("deeper than 64"));
  }
  EXPECT_THAT(ErrorOf(JsonValue::Parse(Repeat("[", 1000000))), HasSubstr("deeper than 64"));
  EXPECT_TRUE(JsonValue::Parse("\"" + Repeat("[", 1000) + "\\\"" + Repeat("{", 1000) + "\"").ok())
      << "brackets in a string are text";
}

TEST(JsonTest, RefusesAKeyGivenTwiceAndNamesIt) {
  EXPECT_THAT(ErrorOf(JsonValue::Parse(R"({"a":1,"a":1})")), HasSubstr("a: key given twice"));
  EXPECT_THAT(ErrorOf(JsonValue::Parse(R"({"a":[{"b":{"c":1}, "d":{"c":1,"c":2}}]})")),
              HasSubstr("a.d.c: key given twice"));
  EXPECT_THAT(ErrorOf(JsonValue::Parse(R"({"a":1,"\u0061":2})")), HasSubstr("given twice"));
  EXPECT_THAT(ErrorOf(JsonValue::Parse(R"({"":1,"":2})")), HasSubstr("given twice"));
  EXPECT_TRUE(JsonValue::Parse(R"({"a":{"a":1},"b":[{"a":1},{"a":2}]})").ok());
}

TEST(JsonTest, ReadsIntegersExactlyOrNotAtAll) {
  const std::pair<const char*, int64_t> good[] = {
      {"0", 0},
      {"-0", 0},
      {"9223372036854775807", INT64_MAX},
      {"-9223372036854775808", INT64_MIN},
      {"10000.0", 10000},
      {"1e3", 1000},
  };
  for (const auto& [text, value] : good) EXPECT_EQ(*Member(text).AsInt(), value) << text;
  for (const char* text :
       {"9223372036854775808", "18446744073709551615", "18446744073709551616",
        "-9223372036854775809", "1.5", "1e300", "\"1\"", "true", "null", "[1]"}) {
    EXPECT_THAT(ErrorOf(Member(text).AsInt()), HasSubstr("v: expected an integer")) << text;
  }
}

TEST(JsonTest, ErrorsNameThePathAndWhatIsThere) {
  const JsonValue root = Parsed(R"({"model":{"merges":[1,{"left":null}],"n":"x"}})");
  const JsonValue model = *root.Get("model");
  const JsonValue merge = *model.Get("merges")->At(1);
  EXPECT_EQ(merge.path(), "model.merges[1]");
  EXPECT_EQ(ErrorOf(merge.AsInt()), "model.merges[1]: expected an integer, found object");
  EXPECT_EQ(ErrorOf(merge.Get("left")->AsString()),
            "model.merges[1].left: expected a string, found null");
  EXPECT_EQ(ErrorOf(merge.Get("right")), "model.merges[1].right: missing");
  EXPECT_EQ(ErrorOf(model.Get("merges")->At(2)), "model.merges[2]: missing");
  EXPECT_EQ(ErrorOf(merge.At(0)), "model.merges[1]: expected an array, found object");
  EXPECT_EQ(ErrorOf(model.Get("n")->Get("x")), "model.n: expected an object, found string");
  EXPECT_EQ(ErrorOf(model.Get("n")->Keys()), "model.n: expected an object, found string");
  EXPECT_EQ(ErrorOf(root.AsBool()), "document: expected a boolean, found object");
}

TEST(JsonTest, FallbackIsForAbsentMembersOnly) {
  const JsonValue root = Parsed(R"({"s":"x","n":3,"b":true,"null":null})");
  EXPECT_EQ(*root.IntOr("absent", 7), 7);
  EXPECT_EQ(*root.IntOr("null", 7), 7);
  EXPECT_EQ(*root.IntOr("n", 7), 3);
  EXPECT_EQ(*root.DoubleOr("n", 7), 3.0);
  EXPECT_EQ(*root.StringOr("s", "y"), "x");
  EXPECT_TRUE(*root.BoolOr("b", false));
  EXPECT_THAT(ErrorOf(root.IntOr("s", 7)), HasSubstr("s: expected an integer"));
  EXPECT_THAT(ErrorOf(root.BoolOr("n", true)), HasSubstr("n: expected a boolean"));
  EXPECT_THAT(ErrorOf(root.StringOr("n", "")), HasSubstr("n: expected a string"));
  EXPECT_THAT(ErrorOf(root.DoubleOr("s", 0)), HasSubstr("s: expected a number"));
  EXPECT_FALSE(root.Has("null"));
  EXPECT_FALSE(root.Get("n")->Has("n"));
}

TEST(JsonTest, AMemberOutlivesTheDocumentItCameFrom) {
  const JsonValue member = [] { return *Parsed(R"({"a":{"b":"kept"}})").Get("a"); }();
  EXPECT_EQ(*member.Get("b")->AsString(), "kept");
}

}  // namespace
}  // namespace reprise
