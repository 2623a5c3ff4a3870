#include "absl/strings/str_cat.h"
#include "core/base/gguf.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

template <typename T>
absl::StatusOr<const T*> FindValue(const GgufFile& file, absl::string_view key,
                                   absl::string_view expected) {
  auto it = file.metadata.find(key);
  if (it == file.metadata.end()) {
    return absl::NotFoundError(absl::StrCat("gguf metadata key \"", key, "\" is missing"));
  }
  const T* value = std::get_if<T>(&it->second);
  if (value == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("gguf metadata key \"", key, "\" is not ", expected));
  }
  return value;
}

}  // namespace

absl::StatusOr<bool> GgufFile::Bool(absl::string_view key) const {
  ASSIGN_OR_RETURN(const bool* value, FindValue<bool>(*this, key, "a bool"));
  return *value;
}

absl::StatusOr<int64_t> GgufFile::Int(absl::string_view key) const {
  ASSIGN_OR_RETURN(const int64_t* value, FindValue<int64_t>(*this, key, "an integer"));
  return *value;
}

absl::StatusOr<double> GgufFile::Double(absl::string_view key) const {
  if (absl::StatusOr<int64_t> value = Int(key); value.ok()) return static_cast<double>(*value);
  ASSIGN_OR_RETURN(const double* value, FindValue<double>(*this, key, "a number"));
  return *value;
}

absl::StatusOr<std::string> GgufFile::String(absl::string_view key) const {
  ASSIGN_OR_RETURN(const absl::string_view* value,
                   FindValue<absl::string_view>(*this, key, "a string"));
  return std::string(*value);
}

absl::StatusOr<const std::vector<int64_t>*> GgufFile::Ints(absl::string_view key) const {
  return FindValue<std::vector<int64_t>>(*this, key, "an array of integers");
}

absl::StatusOr<const std::vector<double>*> GgufFile::Doubles(absl::string_view key) const {
  return FindValue<std::vector<double>>(*this, key, "an array of floats");
}

absl::StatusOr<const std::vector<absl::string_view>*> GgufFile::Strings(
    absl::string_view key) const {
  return FindValue<std::vector<absl::string_view>>(*this, key, "an array of strings");
}

absl::StatusOr<bool> GgufFile::BoolOr(absl::string_view key, bool fallback) const {
  if (!Has(key)) return fallback;
  return Bool(key);
}

absl::StatusOr<int64_t> GgufFile::IntOr(absl::string_view key, int64_t fallback) const {
  if (!Has(key)) return fallback;
  return Int(key);
}

absl::StatusOr<double> GgufFile::DoubleOr(absl::string_view key, double fallback) const {
  if (!Has(key)) return fallback;
  return Double(key);
}

absl::StatusOr<std::string> GgufFile::StringOr(absl::string_view key,
                                               absl::string_view fallback) const {
  if (!Has(key)) return std::string(fallback);
  return String(key);
}

}  // namespace reprise
