// Unicode normalisation forms C and D. Pure functions.
//
// utf8proc's own way orders combining marks one swap at a time, which a text of
// nothing else turns into minutes; here they are sorted.
// Source: Unicode Standard Annex 15; decompositions and compositions of utf8proc.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace reprise {

// `text` must be valid UTF-8.
std::u32string ToNfd(absl::string_view text);

// `text` must be valid UTF-8. kResourceExhausted: out of memory.
absl::StatusOr<std::string> ToNfc(absl::string_view text);

}  // namespace reprise
