// Writes JSON: members in the order in which they are added, numbers that are not
// finite as null.
//
// Threading  one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace reprise::client::load {

class JsonObject {
 public:
  JsonObject& Add(absl::string_view key, absl::string_view text);
  JsonObject& Add(absl::string_view key, const char* text) {
    return Add(key, absl::string_view(text));
  }
  JsonObject& Add(absl::string_view key, int64_t number);
  JsonObject& Add(absl::string_view key, int32_t number) { return Add(key, int64_t{number}); }
  JsonObject& Add(absl::string_view key, double number);
  JsonObject& Add(absl::string_view key, bool flag);
  template <typename T>
  JsonObject& Add(absl::string_view key, const std::optional<T>& value) {
    return value ? Add(key, *value) : AddRaw(key, "null");
  }
  JsonObject& Add(absl::string_view key, const JsonObject& object) {
    return AddRaw(key, object.Text());
  }

  // `json` is written as it is.
  JsonObject& AddRaw(absl::string_view key, absl::string_view json);

  std::string Text() const { return members_ + "}"; }

 private:
  std::string members_ = "{";
};

// A list of what is already JSON.
class JsonList {
 public:
  JsonList& Add(absl::string_view json);
  std::string Text() const { return items_ + "]"; }

 private:
  std::string items_ = "[";
};

}  // namespace reprise::client::load
