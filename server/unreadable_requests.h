// Answers requests that gRPC cannot parse, which never reach a handler: bytes that are
// no message of the call, and text fields that are not UTF-8. gRPC itself would say
// INTERNAL and nothing else.
//
// Each gets INVALID_ARGUMENT with details, and is counted and logged as any other call.
// Threading  as gRPC asks: one interceptor belongs to one call.
#pragma once

#include <grpcpp/support/server_interceptor.h>

#include <memory>
#include <vector>

#include "server/grpc_server.h"

namespace reprise::server {

// `parts` outlives the server.
std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
InterceptUnreadableRequests(const GrpcParts& parts, config::v1::Role role);

}  // namespace reprise::server
