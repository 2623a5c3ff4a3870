#include "core/text/nfc.h"

#include <utf8proc.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace reprise {

absl::StatusOr<std::string> ToNfc(absl::string_view text) {
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  if (size < 0) {
    return absl::ResourceExhaustedError(absl::StrCat("normalising text: ", utf8proc_errmsg(size)));
  }
  std::string out(reinterpret_cast<const char*>(composed), static_cast<size_t>(size));
  std::free(composed);
  return out;
}

}  // namespace reprise
