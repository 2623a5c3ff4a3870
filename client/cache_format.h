// How replies about the cache are shown to people. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "reprise/admin/v1/cache_admin_service.pb.h"

namespace reprise::client {

// One row an entry.
std::string EntriesText(const std::vector<admin::v1::CacheEntry>& entries);

// One row a namespace; empty when there is only the default one.
std::string NamespacesText(const admin::v1::GetCacheStatsResponse& stats);

std::string WarmText(const admin::v1::WarmCacheResponse& response);
std::string PurgeText(const admin::v1::PurgeCacheEntriesResponse& response, bool forced);

}  // namespace reprise::client
