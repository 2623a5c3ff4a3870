#include "core/text/nfc.h"

#include <utf8proc.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/text/utf8.h"

namespace reprise {
namespace {

constexpr int kMaxParts = 32;  // the longest canonical decomposition has 4

utf8proc_propval_t CombiningClass(char32_t c) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

// Puts each run of combining characters in the order of their classes.
void OrderMarks(std::u32string& text) {
  const auto is_mark = [](char32_t c) { return CombiningClass(c) != 0; };
  for (auto at = text.begin(); at != text.end();) {
    const auto begin = std::find_if(at, text.end(), is_mark);
    at = std::find_if_not(begin, text.end(), is_mark);
    std::stable_sort(begin, at,
                     [](char32_t a, char32_t b) { return CombiningClass(a) < CombiningClass(b); });
  }
}

}  // namespace

std::u32string ToNfd(absl::string_view text) {
  std::u32string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Character c = DecodeUtf8(text, at);
    at += c.length;
    utf8proc_int32_t parts[kMaxParts];
    int boundary = 0;  // not used with these options
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(c.code_point), parts, kMaxParts,
        static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE), &boundary);
    for (utf8proc_ssize_t i = 0; i < std::min<utf8proc_ssize_t>(count, kMaxParts); ++i) {
      out.push_back(static_cast<char32_t>(parts[i]));
    }
  }
  OrderMarks(out);
  return out;
}

absl::StatusOr<std::string> ToNfc(absl::string_view text) {
  std::u32string composed = ToNfd(text);
  const utf8proc_ssize_t size =
      utf8proc_normalize_utf32(reinterpret_cast<utf8proc_int32_t*>(composed.data()),
                               static_cast<utf8proc_ssize_t>(composed.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  if (size < 0) {
    return absl::ResourceExhaustedError(absl::StrCat("normalising text: ", utf8proc_errmsg(size)));
  }
  std::string out;
  for (utf8proc_ssize_t i = 0; i < size; ++i) AppendUtf8(composed[i], out);
  return out;
}

}  // namespace reprise
