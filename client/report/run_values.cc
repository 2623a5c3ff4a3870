#include "client/report/run_values.h"

#include <cmath>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "client/report/html.h"

namespace reprise::client {
namespace {

std::optional<JsonValue> At(JsonValue value, JsonPath path) {
  for (const absl::string_view key : path) {
    if (!value.Has(key)) return std::nullopt;
    auto member = value.Get(key);
    if (!member.ok()) return std::nullopt;
    value = *std::move(member);
  }
  return value;
}

}  // namespace

double NumberIn(const JsonValue& value, JsonPath path) {
  const auto found = At(value, path);
  const auto number = found ? found->AsDouble() : absl::NotFoundError("");
  return number.ok() ? *number : std::numeric_limits<double>::quiet_NaN();
}

std::string TextIn(const JsonValue& value, JsonPath path) {
  const auto found = At(value, path);
  return found ? Scalar(*found) : "";
}

bool FlagIn(const JsonValue& value, JsonPath path) {
  const auto found = At(value, path);
  const auto flag = found ? found->AsBool() : absl::NotFoundError("");
  return flag.ok() && *flag;
}

std::vector<JsonValue> ListIn(const JsonValue& value, JsonPath path) {
  std::vector<JsonValue> elements;
  const auto found = At(value, path);
  if (!found || found->kind() != JsonValue::Kind::kArray) return elements;
  for (size_t i = 0; i < found->size(); ++i) {
    if (auto element = found->At(i); element.ok()) elements.push_back(*std::move(element));
  }
  return elements;
}

std::vector<std::pair<std::string, std::string>> MembersIn(const JsonValue& value, JsonPath path) {
  std::vector<std::pair<std::string, std::string>> members;
  const auto found = At(value, path);
  if (!found || found->kind() != JsonValue::Kind::kObject) return members;
  const auto keys = found->Keys();
  if (!keys.ok()) return members;
  for (const std::string& key : *keys) {
    if (const auto member = found->Get(key); member.ok())
      members.emplace_back(key, Scalar(*member));
  }
  return members;
}

std::string Scalar(const JsonValue& value) {
  switch (value.kind()) {
    case JsonValue::Kind::kString:
      return value.AsString().value_or("");
    case JsonValue::Kind::kBool:
      return value.AsBool().value_or(false) ? "true" : "false";
    case JsonValue::Kind::kNumber: {
      const double number = value.AsDouble().value_or(0);
      const bool whole = std::abs(number) < 9e15 && number == std::floor(number);
      return whole ? absl::StrCat(static_cast<int64_t>(number)) : absl::StrCat(number);
    }
    default:
      return "";
  }
}

}  // namespace reprise::client
