// Client talks to one Reprise server over gRPC.
//
// Threading  safe from any thread; calls block until they end or their deadline
//            passes.
// Errors     the server's code and message, which names a refused field; the reason
//            and the retry delay of its error details are appended to the message.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "reprise/admin/v1/cache_admin_service.grpc.pb.h"
#include "reprise/inference/v1/generation_service.grpc.pb.h"

namespace reprise::client {

struct ClientOptions {
  std::string address = "127.0.0.1:8470";        // inference, host:port
  std::string admin_address = "127.0.0.1:8471";  // admin, host:port
  absl::Duration timeout = absl::Minutes(5);     // of one call
  std::string ca_pem;                            // signs the server's certificate; empty: no TLS
  std::string certificate_pem;                   // the client's own, with TLS; empty: none
  std::string key_pem;                           // its key
  std::string server_name;  // that the server's certificate must have; empty: the address
  std::string token;        // bearer token; empty: none
};

// A channel with the options' TLS; with `own_connection` it shares none with another channel.
std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address, const ClientOptions& options,
                                           bool own_connection = false);

// The bearer token and the deadline, now plus the options' timeout.
void PrepareContext(const ClientOptions& options, grpc::ClientContext& context);

// Code and message, with the reason and the retry delay of the error details.
absl::Status ToAbslStatus(const grpc::Status& status);

class Client {
 public:
  using ChunkCallback = std::function<void(const inference::v1::TokenChunk&)>;

  // Connects lazily: an unreachable server is an error of the first call.
  explicit Client(const ClientOptions& options);

  absl::StatusOr<inference::v1::Generation> Generate(const inference::v1::GenerationSpec& spec);

  // Calls `on_chunk` for every chunk, in order, and returns the final message.
  // kDataLoss when the stream ends without one.
  absl::StatusOr<inference::v1::Generation> StreamGenerate(
      const inference::v1::GenerationSpec& spec, const ChunkCallback& on_chunk);

  absl::StatusOr<inference::v1::CountTokensResponse> CountTokens(
      const inference::v1::Prompt& prompt);
  absl::StatusOr<inference::v1::ExplainPromptResponse> ExplainPrompt(
      const inference::v1::ExplainPromptRequest& request);
  absl::StatusOr<inference::v1::Model> GetModel();
  absl::StatusOr<admin::v1::GetCacheStatsResponse> GetCacheStats();
  absl::StatusOr<admin::v1::ListCacheEntriesResponse> ListCacheEntries(
      const admin::v1::ListCacheEntriesRequest& request);
  absl::StatusOr<admin::v1::ExplainCacheLookupResponse> ExplainCacheLookup(
      const admin::v1::ExplainCacheLookupRequest& request);
  absl::StatusOr<admin::v1::WarmCacheResponse> WarmCache(
      const admin::v1::WarmCacheRequest& request);
  absl::StatusOr<admin::v1::PinCacheEntryResponse> PinCacheEntry(
      const admin::v1::PinCacheEntryRequest& request);
  absl::StatusOr<admin::v1::SetCacheEntryTtlResponse> SetCacheEntryTtl(
      const admin::v1::SetCacheEntryTtlRequest& request);
  absl::StatusOr<admin::v1::PurgeCacheEntriesResponse> PurgeCacheEntries(
      const admin::v1::PurgeCacheEntriesRequest& request);

  // Hands the archive's bytes to `on_data`, in order; the last message, without them.
  absl::StatusOr<admin::v1::ExportCacheEntriesResponse> ExportCacheEntries(
      const admin::v1::ExportCacheEntriesRequest& request,
      const std::function<void(const std::string&)>& on_data);

  // Sends `first` and then the bytes that `read` gives until they are empty.
  absl::StatusOr<admin::v1::ImportCacheEntriesResponse> ImportCacheEntries(
      admin::v1::ImportCacheEntriesRequest first, const std::function<std::string()>& read);

 private:
  std::unique_ptr<grpc::ClientContext> NewContext() const;

  ClientOptions options_;
  std::unique_ptr<inference::v1::GenerationService::Stub> generation_;
  std::unique_ptr<admin::v1::CacheAdminService::Stub> admin_;
};

}  // namespace reprise::client
