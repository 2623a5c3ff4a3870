// What gRPC knows of a caller: its authorization headers and the names in its verified
// certificate.
//
// Threading  pure function of one call's context.
#pragma once

#include <grpcpp/grpcpp.h>

#include "server/authenticator.h"

namespace reprise::server {

PeerFacts PeerFactsOf(const grpc::ServerContextBase& context);

}  // namespace reprise::server
