// AdminHandlers: what each RPC of CacheAdminService does, knowing no gRPC: check, call, fill.
//
// Threading  every method is safe from any thread and blocks until its RPC ends.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/engine/engine.h"
#include "reprise/admin/v1/cache_admin_service.pb.h"
#include "server/generation_handlers.h"

namespace reprise::server {

class AdminHandlers {
 public:
  // False: the reader is gone.
  using PieceSink = std::function<bool(const admin::v1::ExportCacheEntriesResponse&)>;
  // The next message; nullopt: there are no more.
  using PieceSource = std::function<std::optional<admin::v1::ImportCacheEntriesRequest>()>;

  // All outlive this.
  AdminHandlers(const ModelFacts& facts, Engine* engine, GenerationHandlers* generation)
      : facts_(facts), engine_(engine), generation_(generation) {}

  absl::Status GetCacheStats(admin::v1::GetCacheStatsResponse& response);
  absl::Status ListCacheEntries(const CallFacts& call,
                                const admin::v1::ListCacheEntriesRequest& request,
                                admin::v1::ListCacheEntriesResponse& response);
  absl::Status ExplainCacheLookup(const CallFacts& call,
                                  const admin::v1::ExplainCacheLookupRequest& request,
                                  admin::v1::ExplainCacheLookupResponse& response);
  absl::Status WarmCache(const CallFacts& call, const admin::v1::WarmCacheRequest& request,
                         admin::v1::WarmCacheResponse& response);
  absl::Status PinCacheEntry(const CallFacts& call, const admin::v1::PinCacheEntryRequest& request,
                             admin::v1::PinCacheEntryResponse& response);
  absl::Status SetCacheEntryTtl(const CallFacts& call,
                                const admin::v1::SetCacheEntryTtlRequest& request,
                                admin::v1::SetCacheEntryTtlResponse& response);
  absl::Status PurgeCacheEntries(const CallFacts& call,
                                 const admin::v1::PurgeCacheEntriesRequest& request,
                                 admin::v1::PurgeCacheEntriesResponse& response);
  absl::Status ExportCacheEntries(const CallFacts& call,
                                  const admin::v1::ExportCacheEntriesRequest& request,
                                  const PieceSink& send);
  absl::Status ImportCacheEntries(const CallFacts& call, const PieceSource& next,
                                  admin::v1::ImportCacheEntriesResponse& response);

 private:
  struct Selected {
    std::string tenant;
    std::vector<TokenId> ids;
  };
  absl::StatusOr<Selected> Select(const CallFacts& call,
                                  const admin::v1::CacheEntrySelector& selector);
  absl::Status Mark(const Selected& entry, std::optional<bool> pinned,
                    std::optional<absl::Duration> ttl, admin::v1::CacheEntry& out);
  absl::StatusOr<std::vector<CacheEntry>> AllWithPrefix(const CallFacts& call,
                                                        const std::string& tenant,
                                                        const std::string& text_prefix);
  absl::StatusOr<std::vector<CacheEntry>> Doomed(
      const CallFacts& call, const std::string& tenant,
      const admin::v1::PurgeCacheEntriesRequest& request);
  struct Import {
    ImportBatch batch;
    int64_t bytes = 0;  // of its payload
  };
  absl::Status TakeEntries(ArchiveReader& reader, Import& import,
                           admin::v1::ImportCacheEntriesResponse& response);
  absl::Status WriteBatch(Import& import, admin::v1::ImportCacheEntriesResponse& response);
  std::string TextOf(const CacheEntry& entry, size_t max_bytes) const;
  bool HasPrefix(const CacheEntry& entry, const std::string& prefix) const;
  void Fill(const CacheEntry& entry, admin::v1::CacheEntry& out) const;

  const ModelFacts& facts_;
  Engine* engine_;
  GenerationHandlers* generation_;
};

// Warms the cache from a file with one WarmCacheRequest as JSON on each line; empty lines are
// skipped. kInvalidArgument naming file and line: malformed or refused; lines before it stay.
absl::Status WarmFromFile(AdminHandlers& handlers, const std::string& path,
                          const std::string& default_tenant);

}  // namespace reprise::server
