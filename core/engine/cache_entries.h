// Cached entries as operators see them: a leaf of a namespace's tree with all that leads to
// it, which is the KV of one prompt, its reply included.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/ids.h"

namespace reprise {

struct CacheEntry {
  std::string id;  // names it in this process until it is gone or grows
  std::string cache_namespace;
  std::vector<TokenId> ids;
  int32_t host_tokens = 0;                      // of `ids`, in memory
  int32_t disk_tokens = 0;                      // in the store
  absl::Time created;                           // of its last part
  absl::Time last_used = absl::InfinitePast();  // as the store knows it; InfinitePast: not stored
  int64_t hit_count = 0;                        // likewise
  bool pinned = false;                          // it or what it begins with
  absl::Time expires = absl::InfiniteFuture();
  uint64_t prompt_id = 0;  // in the vector index; 0: none is exactly `ids`
};

// Where a list goes on. Entries used meanwhile move up and are not seen again; all others
// are seen once.
struct EntryCursor {
  size_t spec = 0;       // of the namespace
  bool on_disk = false;  // memory comes first, then what only the store has
  bool begun = false;    // false: from the newest
  uint64_t tick = 0;
  uint64_t node = 0;
};

// A cursor as text and back; kInvalidArgument naming page_token.
std::string EncodeCursor(const EntryCursor& cursor);
absl::StatusOr<EntryCursor> DecodeCursor(absl::string_view text);

struct EntryQuery {
  std::string tenant;  // empty: all namespaces
  EntryCursor from;
  size_t limit = 100;
  std::optional<bool> pinned;  // only those that are, or are not
  int32_t min_tokens = 0;
};

struct EntryPage {
  std::vector<CacheEntry> entries;  // perhaps fewer than the limit
  std::optional<EntryCursor> next;  // none: that is all
};

struct PurgedEntry {
  int32_t host_tokens = 0;
  int32_t disk_tokens = 0;
};

}  // namespace reprise
