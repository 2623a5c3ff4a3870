#include "server/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "reprise/admin/v1/cache_admin_service.grpc.pb.h"
#include "reprise/inference/v1/generation_service.grpc.pb.h"
#include "server/peer_facts.h"
#include "server/status_map.h"
#include "server/unreadable_requests.h"

namespace reprise::server {
namespace {

namespace wire = inference::v1;
namespace wire_admin = admin::v1;

constexpr char kRequestId[] = "x-request-id";

// Knows the callers of one port, counts its calls in flight and accounts for each one,
// however it ends.
class CallGuard {
 public:
  CallGuard(const GrpcParts& parts, int limit, config::v1::Role role)
      : parts_(parts), limit_(limit), role_(role) {}

  template <typename Handler>
  grpc::Status Run(const char* method, grpc::ServerContext* context, Handler handler) {
    const absl::Duration start = parts_.clock->Monotonic();
    parts_.metrics->RequestStarted(method);
    RequestSummary summary;
    summary.method = method;
    summary.request_id = RequestId(*context);
    context->AddInitialMetadata(kRequestId, summary.request_id);
    CallFacts call{summary.request_id, start, Deadline(*context),
                   [context] { return context->IsCancelled(); }};
    const bool has_room = ++in_flight_ <= limit_;
    absl::Status status = Admit(*context, call);
    summary.tenant = call.tenant;
    if (status.ok() && !has_room) {
      status = absl::ResourceExhaustedError(absl::StrCat("more than ", limit_, " calls in flight"));
    }
    if (status.ok()) status = handler(call, summary);
    --in_flight_;
    summary.code = CodeName(status.code());
    summary.total = parts_.clock->Monotonic() - start;
    parts_.metrics->RequestFinished(summary);
    parts_.logger->Request(summary);
    return ToGrpc(status);
  }

  const GrpcParts& parts() const { return parts_; }
  config::v1::Role role() const { return role_; }

 private:
  absl::Status Admit(const grpc::ServerContext& context, CallFacts& call) const {
    ASSIGN_OR_RETURN(CallerIdentity caller, Authenticate(parts_.auth, PeerFactsOf(context), role_));
    call.tenant = std::move(caller.tenant);
    return absl::OkStatus();
  }

  // The caller's id if it can be used, else one of ours.
  std::string RequestId(const grpc::ServerContext& context) {
    const auto found = context.client_metadata().find(kRequestId);
    if (found != context.client_metadata().end()) {
      const absl::string_view id(found->second.data(), found->second.size());
      if (IsUsableRequestId(id)) return std::string(id);
    }
    return absl::StrFormat("%x-%x", absl::ToUnixNanos(parts_.clock->Now()), ++next_id_);
  }

  std::optional<absl::Duration> Deadline(const grpc::ServerContext& context) const {
    const auto deadline = context.deadline();
    if (deadline == std::chrono::system_clock::time_point::max()) return std::nullopt;
    return parts_.clock->Monotonic() + (absl::FromChrono(deadline) - parts_.clock->Now());
  }

  GrpcParts parts_;
  int limit_;
  config::v1::Role role_;
  std::atomic<int> in_flight_{0};
  std::atomic<uint64_t> next_id_{0};
};

class GenerationService final : public wire::GenerationService::Service {
 public:
  explicit GenerationService(CallGuard* guard) : guard_(guard) {}

  grpc::Status Generate(grpc::ServerContext* context, const wire::GenerateRequest* request,
                        wire::GenerateResponse* response) override {
    return guard_->Run("Generate", context, [&](const CallFacts& call, RequestSummary& summary) {
      const auto ignore = [](const wire::TokenChunk&) { return true; };
      return handlers().Generate(call, request->spec(), ignore, *response->mutable_generation(),
                                 summary);
    });
  }

  grpc::Status StreamGenerate(grpc::ServerContext* context,
                              const wire::StreamGenerateRequest* request,
                              grpc::ServerWriter<wire::StreamGenerateResponse>* writer) override {
    return guard_->Run(
        "StreamGenerate", context, [&](const CallFacts& call, RequestSummary& summary) {
          const auto send = [&](const wire::TokenChunk& chunk) {
            wire::StreamGenerateResponse message;
            *message.mutable_chunk() = chunk;
            return writer->Write(message);
          };
          wire::StreamGenerateResponse last;
          absl::Status status =
              handlers().Generate(call, request->spec(), send, *last.mutable_completed(), summary);
          if (status.ok()) writer->Write(last);
          return status;
        });
  }

  grpc::Status CountTokens(grpc::ServerContext* context, const wire::CountTokensRequest* request,
                           wire::CountTokensResponse* response) override {
    return guard_->Run("CountTokens", context, [&](const CallFacts&, RequestSummary&) {
      return handlers().CountTokens(*request, *response);
    });
  }

  grpc::Status GetModel(grpc::ServerContext* context, const wire::GetModelRequest*,
                        wire::GetModelResponse* response) override {
    return guard_->Run("GetModel", context, [&](const CallFacts& call, RequestSummary&) {
      return handlers().GetModel(call, *response);
    });
  }

  grpc::Status ExplainPrompt(grpc::ServerContext* context,
                             const wire::ExplainPromptRequest* request,
                             wire::ExplainPromptResponse* response) override {
    return guard_->Run("ExplainPrompt", context, [&](const CallFacts& call, RequestSummary&) {
      return handlers().ExplainPrompt(call, *request, *response);
    });
  }

 private:
  GenerationHandlers& handlers() { return *guard_->parts().handlers; }
  CallGuard* guard_;
};

class AdminService final : public admin::v1::CacheAdminService::Service {
 public:
  explicit AdminService(CallGuard* guard) : guard_(guard) {}

  grpc::Status GetCacheStats(grpc::ServerContext* context, const wire_admin::GetCacheStatsRequest*,
                             wire_admin::GetCacheStatsResponse* response) override {
    return guard_->Run("GetCacheStats", context, [&](const CallFacts&, RequestSummary&) {
      return handlers().GetCacheStats(*response);
    });
  }
  grpc::Status ListCacheEntries(grpc::ServerContext* context,
                                const wire_admin::ListCacheEntriesRequest* request,
                                wire_admin::ListCacheEntriesResponse* response) override {
    return Unary("ListCacheEntries", &AdminHandlers::ListCacheEntries, context, *request,
                 *response);
  }
  grpc::Status ExplainCacheLookup(grpc::ServerContext* context,
                                  const wire_admin::ExplainCacheLookupRequest* request,
                                  wire_admin::ExplainCacheLookupResponse* response) override {
    return Unary("ExplainCacheLookup", &AdminHandlers::ExplainCacheLookup, context, *request,
                 *response);
  }
  grpc::Status WarmCache(grpc::ServerContext* context, const wire_admin::WarmCacheRequest* request,
                         wire_admin::WarmCacheResponse* response) override {
    return Unary("WarmCache", &AdminHandlers::WarmCache, context, *request, *response);
  }
  grpc::Status PinCacheEntry(grpc::ServerContext* context,
                             const wire_admin::PinCacheEntryRequest* request,
                             wire_admin::PinCacheEntryResponse* response) override {
    return Unary("PinCacheEntry", &AdminHandlers::PinCacheEntry, context, *request, *response);
  }
  grpc::Status SetCacheEntryTtl(grpc::ServerContext* context,
                                const wire_admin::SetCacheEntryTtlRequest* request,
                                wire_admin::SetCacheEntryTtlResponse* response) override {
    return Unary("SetCacheEntryTtl", &AdminHandlers::SetCacheEntryTtl, context, *request,
                 *response);
  }
  grpc::Status PurgeCacheEntries(grpc::ServerContext* context,
                                 const wire_admin::PurgeCacheEntriesRequest* request,
                                 wire_admin::PurgeCacheEntriesResponse* response) override {
    return Unary("PurgeCacheEntries", &AdminHandlers::PurgeCacheEntries, context, *request,
                 *response);
  }
  grpc::Status ExportCacheEntries(
      grpc::ServerContext* context, const wire_admin::ExportCacheEntriesRequest* request,
      grpc::ServerWriter<wire_admin::ExportCacheEntriesResponse>* writer) override {
    return guard_->Run("ExportCacheEntries", context, [&](const CallFacts& call, RequestSummary&) {
      return handlers().ExportCacheEntries(call, *request,
                                           [&](const auto& piece) { return writer->Write(piece); });
    });
  }
  grpc::Status ImportCacheEntries(grpc::ServerContext* context,
                                  grpc::ServerReader<wire_admin::ImportCacheEntriesRequest>* reader,
                                  wire_admin::ImportCacheEntriesResponse* response) override {
    const auto next = [&]() -> std::optional<wire_admin::ImportCacheEntriesRequest> {
      wire_admin::ImportCacheEntriesRequest piece;
      if (!reader->Read(&piece)) return std::nullopt;
      return piece;
    };
    return guard_->Run("ImportCacheEntries", context, [&](const CallFacts& call, RequestSummary&) {
      return handlers().ImportCacheEntries(call, next, *response);
    });
  }

 private:
  template <typename Request, typename Response>
  grpc::Status Unary(const char* method,
                     absl::Status (AdminHandlers::*handler)(const CallFacts&, const Request&,
                                                            Response&),
                     grpc::ServerContext* context, const Request& request, Response& response) {
    return guard_->Run(method, context, [&](const CallFacts& call, RequestSummary&) {
      return (handlers().*handler)(call, request, response);
    });
  }
  AdminHandlers& handlers() { return *guard_->parts().admin; }

  CallGuard* guard_;
};

struct Listener {
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

absl::StatusOr<Listener> Listen(const std::string& address, const TlsOptions& tls,
                                const GrpcOptions& options, const CallGuard& guard,
                                grpc::Service* service) {
  Listener listener;
  grpc::ServerBuilder builder;
  builder.experimental().SetInterceptorCreators(
      InterceptUnreadableRequests(guard.parts(), guard.role()));
  ASSIGN_OR_RETURN(const auto credentials, MakeServerCredentials(tls));
  builder.AddListeningPort(address, credentials, &listener.port);
  builder.RegisterService(service);
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  // A busy port is an error, not a port shared with another process.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  listener.server = builder.BuildAndStart();
  if (listener.server == nullptr || listener.port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, "; is the port in use?"));
  }
  return listener;
}

}  // namespace

struct GrpcServer::Impl {
  Impl(const GrpcOptions& options, const GrpcParts& parts)
      : inference_guard(parts, options.max_concurrent_rpcs, config::v1::ROLE_INFERENCE),
        admin_guard(parts, options.max_concurrent_rpcs, config::v1::ROLE_ADMIN),
        generation(&inference_guard),
        admin(&admin_guard) {}

  CallGuard inference_guard, admin_guard;
  GenerationService generation;
  AdminService admin;
  Listener inference_listener, admin_listener;
};

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcServer::~GrpcServer() = default;

int GrpcServer::inference_port() const { return impl_->inference_listener.port; }
int GrpcServer::admin_port() const { return impl_->admin_listener.port; }

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcOptions& options,
                                                              const GrpcParts& parts) {
  grpc::EnableDefaultHealthCheckService(true);
  if (options.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  auto impl = std::make_unique<Impl>(options, parts);
  ASSIGN_OR_RETURN(impl->inference_listener,
                   Listen(options.inference_address, options.inference_tls, options,
                          impl->inference_guard, &impl->generation));
  ASSIGN_OR_RETURN(impl->admin_listener, Listen(options.admin_address, options.admin_tls, options,
                                                impl->admin_guard, &impl->admin));
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

void GrpcServer::SetServing(bool serving) {
  const auto set = [serving](grpc::Server& server, const char* service) {
    auto* health = server.GetHealthCheckService();
    health->SetServingStatus("", serving);
    health->SetServingStatus(service, serving);
    health->SetServingStatus("readiness", serving);
    // A draining server is alive: restarting it would lose what it still finishes.
    health->SetServingStatus("liveness", true);
  };
  set(*impl_->inference_listener.server, wire::GenerationService::service_full_name());
  set(*impl_->admin_listener.server, admin::v1::CacheAdminService::service_full_name());
}

void GrpcServer::Stop(absl::Duration limit) {
  const auto deadline = absl::ToChronoTime(absl::Now() + limit);
  impl_->inference_listener.server->Shutdown(deadline);
  impl_->admin_listener.server->Shutdown(deadline);
}

}  // namespace reprise::server
