// Checks the store of a configuration without serving it: `reprise-server --verify_store`.
#pragma once

#include <ostream>

#include "absl/status/statusor.h"
#include "reprise/config/v1/server_config.pb.h"

namespace reprise::server {

// Reads all of cache.store.path and writes to `out` what it holds and what is damaged, with
// `repair` what was removed. Whether the store is sound now. Errors as ScrubRocksDbStore.
absl::StatusOr<bool> VerifyStore(const config::v1::ServerConfig& config, bool repair,
                                 std::ostream& out);

}  // namespace reprise::server
