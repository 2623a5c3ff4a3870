#include "server/build_callers.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/converters.h"
#include "server/security_config.h"
#include "server/tls.h"

namespace reprise::server {

using config::v1::ServerConfig;

namespace {

void SetTls(const config::v1::TlsConfig& tls, absl::Duration reload, TlsOptions& options) {
  options.certificate_file = tls.certificate_file();
  options.key_file = tls.key_file();
  options.client_ca_file = tls.client_ca_file();
  options.require_client_certificate = tls.require_client_certificate();
  options.reload_interval = reload;
}

}  // namespace

GrpcOptions ToGrpcOptions(const config::v1::ListenConfig& listen) {
  GrpcOptions options;
  options.inference_address = listen.inference();
  options.admin_address = listen.admin();
  options.reflection = listen.reflection();
  options.max_concurrent_rpcs = listen.max_concurrent_rpcs();
  options.max_message_bytes = listen.max_message_bytes();
  const absl::Duration reload = ToDuration(listen.tls_reload_interval());
  SetTls(listen.inference_tls(), reload, options.inference_tls);
  SetTls(listen.admin_tls(), reload, options.admin_tls);
  return options;
}

absl::StatusOr<AuthPolicy> PrepareAuthentication(const ServerConfig& config) {
  SetLeastTlsVersion(config.listen().tls_min_version() == config::v1::TLS_VERSION_1_3
                         ? TlsVersion::k1_3
                         : TlsVersion::k1_2);
  ASSIGN_OR_RETURN(AuthPolicy policy, LoadAuthPolicy(config));
  const GrpcOptions options = ToGrpcOptions(config.listen());
  RETURN_IF_ERROR(CheckTlsFiles(options.inference_tls));
  RETURN_IF_ERROR(CheckTlsFiles(options.admin_tls));
  return policy;
}

std::vector<NamespaceSpec> ListNamespaces(const ServerConfig& config,
                                          const IdentityOf& identity_of) {
  std::vector<NamespaceSpec> specs;
  std::map<std::pair<std::string, std::string>, size_t> known;
  for (const std::string& name : TenantNames(config)) {
    config::v1::TenantConfig tenant;
    for (const auto& listed : config.tenants()) {
      if (listed.name() == name) tenant = listed;
    }
    const std::pair<std::string, std::string> owner =
        tenant.pool().empty() ? std::pair("tenant", name) : std::pair("pool", tenant.pool());
    const auto [found, is_new] = known.emplace(owner, specs.size());
    if (is_new) {
      specs.push_back({tenant.pool().empty() ? name : absl::StrCat("pool:", tenant.pool()),
                       identity_of(owner),
                       {tenant.max_host_bytes(), tenant.max_disk_bytes()},
                       {}});
    }
    specs[found->second].tenants.push_back(name);
  }
  return specs;
}

}  // namespace reprise::server
