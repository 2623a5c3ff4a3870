#include "core/base/json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

// Members sorted by key: the ordered kind searches them one by one, which takes
// minutes for a vocabulary of a few hundred thousand tokens.
using Node = nlohmann::json;
constexpr int kMaxDepth = 64;

const Node& NodeAt(const void* node) { return *static_cast<const Node*>(node); }

// Counts nesting before the real parser, which recurses, sees the text.
bool TooDeep(absl::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (depth > kMaxDepth) return true;
  }
  return false;
}

// Watches a parse for keys given twice: readers disagree on which of the two counts.
class DuplicateKeys {
 public:
  bool Watch(Node::parse_event_t event, const Node& parsed) {
    if (event == Node::parse_event_t::object_start) objects_.emplace_back();
    if (event == Node::parse_event_t::object_end) objects_.pop_back();
    if (event == Node::parse_event_t::key) {
      Object& object = objects_.back();
      object.key = parsed.get<std::string>();
      if (!object.seen.insert(object.key).second && !first_) first_ = Path();
    }
    return true;
  }

  absl::Status status() const {
    if (!first_) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(*first_, ": key given twice"));
  }

 private:
  struct Object {
    absl::flat_hash_set<std::string> seen;
    std::string key;  // the latest
  };

  // Of the latest key; list positions are not known here.
  std::string Path() const {
    return absl::StrJoin(objects_, ".", [](std::string* out, const Object& object) {
      absl::StrAppend(out, object.key);
    });
  }

  std::vector<Object> objects_;  // from the root to the innermost
  std::optional<std::string> first_;
};

// The length of the character at `at`; 0 when it is no valid UTF-8 (Unicode 15,
// table 3-7: no surrogates, no overlong forms, nothing past U+10FFFF).
size_t Utf8Length(absl::string_view text, size_t at) {
  const auto lead = static_cast<uint8_t>(text[at]);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || at + length > text.size()) return 0;
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  const auto second = static_cast<uint8_t>(text[at + 1]);
  if (second < low || second > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((static_cast<uint8_t>(text[at + i]) & 0xC0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

struct JsonValue::Document {
  Node root;
};

JsonValue::JsonValue(std::shared_ptr<const Document> document, const void* node, std::string path)
    : document_(std::move(document)), node_(node), path_(std::move(path)) {}

absl::StatusOr<JsonValue> JsonValue::Parse(absl::string_view text) {
  if (TooDeep(text)) {
    return absl::InvalidArgumentError(absl::StrCat("JSON nested deeper than ", kMaxDepth));
  }
  auto document = std::make_shared<Document>();
  DuplicateKeys duplicates;
  const auto watch = [&](int, Node::parse_event_t event, Node& parsed) {
    return duplicates.Watch(event, parsed);
  };
  document->root = Node::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (document->root.is_discarded()) return absl::InvalidArgumentError("malformed JSON");
  RETURN_IF_ERROR(duplicates.status());
  const void* root = &document->root;
  return JsonValue(std::move(document), root, "");
}

JsonValue::Kind JsonValue::kind() const {
  switch (NodeAt(node_).type()) {
    case Node::value_t::boolean:
      return Kind::kBool;
    case Node::value_t::number_integer:
    case Node::value_t::number_unsigned:
    case Node::value_t::number_float:
      return Kind::kNumber;
    case Node::value_t::string:
      return Kind::kString;
    case Node::value_t::array:
      return Kind::kArray;
    case Node::value_t::object:
      return Kind::kObject;
    default:
      return Kind::kNull;
  }
}

size_t JsonValue::size() const { return NodeAt(node_).is_structured() ? NodeAt(node_).size() : 0; }

absl::Status JsonValue::Mismatch(absl::string_view expected) const {
  return absl::InvalidArgumentError(absl::StrCat(path_.empty() ? "document" : path_, ": expected ",
                                                 expected, ", found ", NodeAt(node_).type_name()));
}

absl::StatusOr<bool> JsonValue::AsBool() const {
  if (!NodeAt(node_).is_boolean()) return Mismatch("a boolean");
  return NodeAt(node_).get<bool>();
}

absl::StatusOr<int64_t> JsonValue::AsInt() const {
  const Node& node = NodeAt(node_);
  if (node.is_number_unsigned() &&
      node.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Mismatch("an integer below 2^63");
  }
  if (node.is_number_integer()) return node.get<int64_t>();
  if (node.is_number_float()) {  // 10000.0 is how some writers spell 10000
    const double value = node.get<double>();
    if (std::floor(value) == value && std::abs(value) < 9e15) return static_cast<int64_t>(value);
  }
  return Mismatch("an integer");
}

absl::StatusOr<double> JsonValue::AsDouble() const {
  if (!NodeAt(node_).is_number()) return Mismatch("a number");
  return NodeAt(node_).get<double>();
}

absl::StatusOr<std::string> JsonValue::AsString() const {
  if (!NodeAt(node_).is_string()) return Mismatch("a string");
  return NodeAt(node_).get<std::string>();
}

bool JsonValue::Has(absl::string_view key) const {
  const Node& node = NodeAt(node_);
  if (!node.is_object()) return false;
  const auto member = node.find(std::string(key));
  return member != node.end() && !member->is_null();
}

absl::StatusOr<JsonValue> JsonValue::Get(absl::string_view key) const {
  const Node& node = NodeAt(node_);
  if (!node.is_object()) return Mismatch("an object");
  const std::string path = path_.empty() ? std::string(key) : absl::StrCat(path_, ".", key);
  const auto member = node.find(std::string(key));
  if (member == node.end()) return absl::InvalidArgumentError(absl::StrCat(path, ": missing"));
  return JsonValue(document_, &*member, path);
}

absl::StatusOr<JsonValue> JsonValue::At(size_t index) const {
  const Node& node = NodeAt(node_);
  if (!node.is_array()) return Mismatch("an array");
  const std::string path = absl::StrCat(path_, "[", index, "]");
  if (index >= node.size()) return absl::InvalidArgumentError(absl::StrCat(path, ": missing"));
  return JsonValue(document_, &node[index], path);
}

absl::StatusOr<std::vector<std::string>> JsonValue::Keys() const {
  const Node& node = NodeAt(node_);
  if (!node.is_object()) return Mismatch("an object");
  std::vector<std::string> keys;
  for (const auto& [key, value] : node.items()) keys.push_back(key);
  return keys;
}

absl::StatusOr<bool> JsonValue::BoolOr(absl::string_view key, bool fallback) const {
  if (!Has(key)) return fallback;
  const auto member = Get(key);
  return member.ok() ? member->AsBool() : member.status();
}

absl::StatusOr<int64_t> JsonValue::IntOr(absl::string_view key, int64_t fallback) const {
  if (!Has(key)) return fallback;
  const auto member = Get(key);
  return member.ok() ? member->AsInt() : member.status();
}

absl::StatusOr<double> JsonValue::DoubleOr(absl::string_view key, double fallback) const {
  if (!Has(key)) return fallback;
  const auto member = Get(key);
  return member.ok() ? member->AsDouble() : member.status();
}

absl::StatusOr<std::string> JsonValue::StringOr(absl::string_view key, std::string fallback) const {
  if (!Has(key)) return fallback;
  const auto member = Get(key);
  return member.ok() ? member->AsString() : member.status();
}

std::string JsonQuote(absl::string_view text) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    const size_t length = Utf8Length(text, at);
    if (length == 0) {
      out += "\\ufffd";
    } else if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<int>(c));
    } else {
      out.append(text.data() + at, length);
    }
    at += std::max<size_t>(length, 1);
  }
  return out + "\"";
}

std::string JsonNumber(double number) {
  return std::isfinite(number) ? absl::StrFormat("%.9g", number) : "null";
}

}  // namespace reprise
