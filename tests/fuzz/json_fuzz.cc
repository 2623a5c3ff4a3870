// JSON text, walked through every accessor.
#include <cmath>

#include "core/base/json.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

void Walk(const JsonValue& value) {
  using Kind = JsonValue::Kind;
  const Kind kind = value.kind();
  Require(value.AsBool().ok() == (kind == Kind::kBool), "only booleans are booleans");
  Require(value.AsString().ok() == (kind == Kind::kString), "only strings are strings");
  const auto number = value.AsDouble();
  Require(number.ok() == (kind == Kind::kNumber), "only numbers are numbers");
  Require(!number.ok() || std::isfinite(*number), "numbers are finite");
  const auto integer = value.AsInt();
  Require(!integer.ok() || static_cast<double>(*integer) == *number, "an integer is the number");
  if (kind == Kind::kArray) {
    for (size_t i = 0; i < value.size(); ++i) Walk(*value.At(i));
    Require(!value.At(value.size()).ok(), "an array ends");
  }
  const auto keys = value.Keys();
  Require(keys.ok() == (kind == Kind::kObject), "only objects have keys");
  if (keys.ok()) {
    Require(keys->size() == value.size(), "an object has its keys");
    for (const std::string& key : *keys) Walk(*value.Get(key));
  }
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {R"({"a": [1, -2.5, 1e3, true, false, null], "b": {"c": "d\u00e9\ud83d\ude00"}, "": []})",
          "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
          R"({"n": 9223372036854775807, "m": 18446744073709551615, "k": -9223372036854775808})",
          R"("text")",
          "10000.0",
          "\xEF\xBB\xBF{}"};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto value = reprise::JsonValue::Parse(reprise::fuzz::Text(data, size));
  if (value.ok()) reprise::fuzz::Walk(*value);
  return 0;
}
