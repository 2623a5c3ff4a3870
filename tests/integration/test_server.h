// TestServer: the whole server in this process over a scripted model, a store in
// memory and a vector index by brute force; only the composition root is missing.
//
// Threading  one thread starts and ends it; the gate may be used from any.
#pragma once

#include <memory>
#include <string>

#include "core/engine/engine.h"
#include "core/telemetry/log.h"
#include "reprise/admin/v1/cache_admin_service.grpc.pb.h"
#include "reprise/inference/v1/generation_service.grpc.pb.h"
#include "server/grpc_server.h"
#include "tests/fakes/byte_model.h"
#include "tests/fakes/gate.h"

namespace reprise {

// Of callers that say nothing of themselves.
inline constexpr char kTestTenant[] = "tests";

struct TestServerOptions {
  server::GrpcOptions grpc;  // the addresses are set by TestServer
  EngineOptions engine;
  std::vector<NamespaceSpec> namespaces;
  server::AuthPolicy auth;                       // its default tenant is set by TestServer
  CachePolicy cache_policy = CachePolicy::kUse;  // of requests that set none
  int32_t context_length = 2048;
  int32_t hashed_ids = 0;  // see ScriptedRunnerOptions
};

class TestServer {
 public:
  explicit TestServer(TestServerOptions options = {});
  ~TestServer();

  Gate& gate() { return gate_; }
  Engine& engine() { return *engine_; }
  server::GrpcServer& grpc() { return *grpc_; }
  inference::v1::GenerationService::Stub& generation() { return *generation_; }
  admin::v1::CacheAdminService::Stub& admin() { return *admin_; }

  // The sum over the label sets of a metric whose labels contain `label`.
  double Metric(const std::string& name, const std::string& label = "") const;

  // Until nothing runs, waits or is still being written; then the cache's state.
  CacheStats Settle();

  // As the server does with cache.warm_file at its start.
  absl::Status Warm(const std::string& path) {
    return server::WarmFromFile(*admin_handlers_, path, kTestTenant);
  }

  // Blocks until `count` RPCs have ended with `code` (any when empty) and are accounted for.
  void AwaitEnded(int count, const std::string& code = "") const;

 private:
  server::ByteModel model_;
  SystemClock clock_;
  Metrics metrics_;
  Gate gate_;  // the model's steps pass it
  std::unique_ptr<Logger> logger_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<server::GenerationHandlers> handlers_;
  std::unique_ptr<server::AdminHandlers> admin_handlers_;
  std::unique_ptr<server::GrpcServer> grpc_;
  std::unique_ptr<inference::v1::GenerationService::Stub> generation_;
  std::unique_ptr<admin::v1::CacheAdminService::Stub> admin_;
};

inference::v1::GenerationSpec TextSpec(const std::string& text, int32_t max_output_tokens);

}  // namespace reprise
