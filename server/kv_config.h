// Checks of the settings that say how KV is kept: values in memory and on disk.
#pragma once

#include "absl/status/status.h"
#include "reprise/config/v1/server_config.pb.h"

namespace reprise::server {

// kInvalidArgument names the setting, its value and what was expected.
absl::Status CheckKvFormat(const config::v1::ServerConfig& config);

}  // namespace reprise::server
