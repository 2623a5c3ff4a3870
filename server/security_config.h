// Checks of the parts of the configuration that say who may call and as whom: TLS,
// tokens, certificate subjects, tenants.
//
// Errors  kInvalidArgument naming the field, the value and what was expected. Files
//         are not read here.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "reprise/config/v1/server_config.pb.h"

namespace reprise::server {

absl::Status CheckSecurity(const config::v1::ServerConfig& config);

// The names of all tenants: the default one first, the others as they are listed.
std::vector<std::string> TenantNames(const config::v1::ServerConfig& config);

// Whether nobody beyond this machine can reach the address host:port.
bool IsLoopback(absl::string_view address);

}  // namespace reprise::server
