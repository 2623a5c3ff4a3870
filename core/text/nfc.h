// Unicode normalisation form C. Pure functions.
// Source: Unicode Standard Annex 15, through utf8proc.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace reprise {

// `text` must be valid UTF-8. kResourceExhausted: out of memory.
absl::StatusOr<std::string> ToNfc(absl::string_view text);

}  // namespace reprise
