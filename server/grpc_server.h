// GrpcServer serves the handlers with gRPC's synchronous API, on the inference
// and the admin port. The only code that knows which gRPC API is used; why it is
// this one: docs/adr/0001-serve-with-the-sync-api.md.
//
// Threading  Start, SetServing and Stop are called by one thread.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/telemetry/log.h"
#include "server/admin_handlers.h"
#include "server/authenticator.h"
#include "server/generation_handlers.h"
#include "server/tls.h"

namespace reprise::server {

struct GrpcOptions {
  std::string inference_address;
  std::string admin_address;
  TlsOptions inference_tls{.field = "listen.inference_tls"};
  TlsOptions admin_tls{.field = "listen.admin_tls"};
  bool reflection = true;
  int max_concurrent_rpcs = 512;  // on each port, so that operators get through under load
  int max_message_bytes = 4 << 20;
};

// What the services call; outlives the server.
struct GrpcParts {
  GenerationHandlers* handlers = nullptr;
  AdminHandlers* admin = nullptr;
  Metrics* metrics = nullptr;
  Logger* logger = nullptr;
  const Clock* clock = nullptr;
  AuthPolicy auth;
};

class GrpcServer {
 public:
  // kUnavailable naming the address: it cannot be bound. kInvalidArgument naming a file of TLS.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcOptions& options,
                                                           const GrpcParts& parts);
  ~GrpcServer();

  int inference_port() const;
  int admin_port() const;

  // What grpc.health.v1 answers for "", "readiness" and the port's service;
  // "liveness" is always serving.
  void SetServing(bool serving);

  // Ends listening, waits for calls in flight, then cancels them.
  void Stop(absl::Duration limit);

 private:
  struct Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace reprise::server
