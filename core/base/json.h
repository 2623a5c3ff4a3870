// JsonValue is a read-only view of a parsed JSON document from outside.
//
// Threading  immutable after Parse; copies share the document.
// Errors     kInvalidArgument naming the path ("model.merges[3]") and what was
//            expected there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace reprise {

class JsonValue {
 public:
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  // Refuses documents nested deeper than 64 levels and keys given twice in one object.
  static absl::StatusOr<JsonValue> Parse(absl::string_view text);

  Kind kind() const;
  const std::string& path() const { return path_; }
  size_t size() const;  // elements of an array or object, else 0

  absl::StatusOr<bool> AsBool() const;
  absl::StatusOr<int64_t> AsInt() const;  // refuses fractions and overflow
  absl::StatusOr<double> AsDouble() const;
  absl::StatusOr<std::string> AsString() const;

  bool Has(absl::string_view key) const;  // an object with a non-null `key`
  absl::StatusOr<JsonValue> Get(absl::string_view key) const;
  absl::StatusOr<JsonValue> At(size_t index) const;
  absl::StatusOr<std::vector<std::string>> Keys() const;  // ascending

  // The member or `fallback` when it is absent; a wrong type is an error.
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool fallback) const;
  absl::StatusOr<int64_t> IntOr(absl::string_view key, int64_t fallback) const;
  absl::StatusOr<double> DoubleOr(absl::string_view key, double fallback) const;
  absl::StatusOr<std::string> StringOr(absl::string_view key, std::string fallback) const;

 private:
  struct Document;
  JsonValue(std::shared_ptr<const Document> document, const void* node, std::string path);
  absl::Status Mismatch(absl::string_view expected) const;

  std::shared_ptr<const Document> document_;
  const void* node_ = nullptr;  // a node inside *document_
  std::string path_;
};

// A JSON string literal with its quotes; invalid UTF-8 becomes U+FFFD.
std::string JsonQuote(absl::string_view text);

// Nine significant digits; null where `number` is not finite.
std::string JsonNumber(double number);

}  // namespace reprise
