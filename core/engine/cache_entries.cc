#include "core/engine/cache_entries.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace reprise {

std::string EncodeCursor(const EntryCursor& c) {
  return absl::StrCat(c.spec, ".", c.on_disk ? 1 : 0, ".", c.begun ? 1 : 0, ".", c.tick, ".",
                      c.node);
}

absl::StatusOr<EntryCursor> DecodeCursor(absl::string_view text) {
  EntryCursor cursor;
  if (text.empty()) return cursor;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  uint32_t spec = 0, on_disk = 0, begun = 0;
  const bool ok = text.size() <= 100 && parts.size() == 5 && absl::SimpleAtoi(parts[0], &spec) &&
                  absl::SimpleAtoi(parts[1], &on_disk) && absl::SimpleAtoi(parts[2], &begun) &&
                  absl::SimpleAtoi(parts[3], &cursor.tick) &&
                  absl::SimpleAtoi(parts[4], &cursor.node) && on_disk <= 1 && begun <= 1;
  if (!ok) {
    return absl::InvalidArgumentError(
        "page_token: not one that a previous page came with, expected next_page_token");
  }
  cursor.spec = spec;
  cursor.on_disk = on_disk == 1;
  cursor.begun = begun == 1;
  return cursor;
}

}  // namespace reprise
