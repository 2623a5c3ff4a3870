// What run.json says, by path; a value that is absent or of another kind is NaN or "".
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/base/json.h"

namespace reprise::client {

using JsonPath = std::initializer_list<absl::string_view>;

double NumberIn(const JsonValue& value, JsonPath path);
std::string TextIn(const JsonValue& value, JsonPath path);
bool FlagIn(const JsonValue& value, JsonPath path);

// The elements of a list, and the members of an object as texts.
std::vector<JsonValue> ListIn(const JsonValue& value, JsonPath path);
std::vector<std::pair<std::string, std::string>> MembersIn(const JsonValue& value, JsonPath path);

// A member that is text, number or flag as text; "" for lists and objects.
std::string Scalar(const JsonValue& value);

}  // namespace reprise::client
