#include "client/cache_format.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "client/format.h"

namespace reprise::client {
namespace {

std::string TimeText(bool known, const google::protobuf::Timestamp& time) {
  if (!known) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixSeconds(time.seconds()),
                          absl::LocalTimeZone());
}

std::string MebiBytes(int64_t bytes) {
  return absl::StrFormat("%.1f", static_cast<double>(bytes) / (1 << 20));
}

std::string Limit(int64_t bytes) { return bytes == 0 ? "-" : MebiBytes(bytes); }

}  // namespace

std::string EntriesText(const std::vector<admin::v1::CacheEntry>& entries) {
  std::vector<std::vector<std::string>> rows = {{"entry", "namespace", "tokens", "memory", "store",
                                                 "hits", "last used", "expires", "pinned", "text"}};
  for (const admin::v1::CacheEntry& e : entries) {
    rows.push_back({e.entry_id(), e.namespace_name(), absl::StrCat(e.token_count()),
                    absl::StrCat(e.host_token_count()), absl::StrCat(e.disk_token_count()),
                    absl::StrCat(e.hit_count()), TimeText(e.has_last_use_time(), e.last_use_time()),
                    TimeText(e.has_expire_time(), e.expire_time()), e.pinned() ? "yes" : "no",
                    e.text_preview()});
  }
  return FormatTable(rows);
}

std::string NamespacesText(const admin::v1::GetCacheStatsResponse& stats) {
  if (stats.namespaces_size() < 2) return "";
  std::vector<std::vector<std::string>> rows = {{"namespace", "memory MiB", "limit", "cached",
                                                 "pinned", "store MiB", "limit", "segments",
                                                 "prompts"}};
  for (const admin::v1::NamespaceStats& n : stats.namespaces()) {
    rows.push_back({n.name(), MebiBytes(n.host_bytes()), Limit(n.max_host_bytes()),
                    MebiBytes(n.host_cached_bytes()), MebiBytes(n.host_pinned_bytes()),
                    MebiBytes(n.disk_bytes()), Limit(n.max_disk_bytes()),
                    absl::StrCat(n.disk_segment_count()), absl::StrCat(n.prompt_count())});
  }
  return absl::StrCat("\n", FormatTable(rows));
}

std::string WarmText(const admin::v1::WarmCacheResponse& r) {
  return absl::StrFormat("%d of %d tokens durable, %d computed now\n", r.durable_token_count(),
                         r.prompt_token_count(), r.computed_token_count());
}

std::string PurgeText(const admin::v1::PurgeCacheEntriesResponse& r, bool forced) {
  std::string text = EntriesText({r.sample().begin(), r.sample().end()});
  if (!forced) {
    return absl::StrCat(text, r.match_count(), " entries would go; --force removes them\n");
  }
  return absl::StrCat(text, r.match_count(), " entries purged: ", r.purged_host_token_count(),
                      " tokens from memory, ", r.purged_disk_token_count(), " from the store\n");
}

}  // namespace reprise::client
