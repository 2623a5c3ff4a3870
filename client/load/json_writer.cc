#include "client/load/json_writer.h"

#include "absl/strings/str_cat.h"
#include "core/base/json.h"

namespace reprise::client::load {

JsonObject& JsonObject::AddRaw(absl::string_view key, absl::string_view json) {
  absl::StrAppend(&members_, members_.size() > 1 ? "," : "", JsonQuote(key), ":", json);
  return *this;
}

JsonObject& JsonObject::Add(absl::string_view key, absl::string_view text) {
  return AddRaw(key, JsonQuote(text));
}

JsonObject& JsonObject::Add(absl::string_view key, int64_t number) {
  return AddRaw(key, absl::StrCat(number));
}

JsonObject& JsonObject::Add(absl::string_view key, double number) {
  return AddRaw(key, JsonNumber(number));
}

JsonObject& JsonObject::Add(absl::string_view key, bool flag) {
  return AddRaw(key, flag ? "true" : "false");
}

JsonList& JsonList::Add(absl::string_view json) {
  absl::StrAppend(&items_, items_.size() > 1 ? "," : "", json);
  return *this;
}

}  // namespace reprise::client::load
