// Builds the whole server from its configuration: the composition root's parts.
//
// Threading  one thread builds, serves and ends.
// Errors     say what is missing, locked, busy or malformed; nothing listens then.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "reprise/config/v1/server_config.pb.h"

namespace reprise::server {

class RunningServer {
 public:
  virtual ~RunningServer() = default;

  // Not serving, finish what fits the drain timeout, make the cache durable.
  virtual void Drain() = 0;
};

absl::StatusOr<std::unique_ptr<RunningServer>> BuildServer(const config::v1::ServerConfig& config);

}  // namespace reprise::server
