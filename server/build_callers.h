// Builds what the server knows of its callers: ports, credentials, tenants.
//
// Threading  called by the thread that builds the server.
// Errors     kInvalidArgument naming field and file.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/engine/cache_namespace.h"
#include "reprise/config/v1/server_config.pb.h"
#include "server/authenticator.h"
#include "server/grpc_server.h"

namespace reprise::server {

GrpcOptions ToGrpcOptions(const config::v1::ListenConfig& listen);

// Reads and checks all files of tokens and TLS; before the model is loaded, so that a wrong one
// is told at once, and before the first use of gRPC.
absl::StatusOr<AuthPolicy> PrepareAuthentication(const config::v1::ServerConfig& config);

// The identity of what belongs to {"tenant", its name} or {"pool", its name}.
using IdentityOf = std::function<Digest(const std::pair<std::string, std::string>& owner)>;

// The cache's namespaces: one for each tenant and for each pool, the default tenant's first.
std::vector<NamespaceSpec> ListNamespaces(const config::v1::ServerConfig& config,
                                          const IdentityOf& identity_of);

}  // namespace reprise::server
