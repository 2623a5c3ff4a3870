#include "server/security_config.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"

namespace reprise::server {
namespace {

using config::v1::ServerConfig;
using config::v1::TenantConfig;
using config::v1::TlsConfig;

constexpr int64_t kMaxQuotaBytes = int64_t{1} << 50;
constexpr int kMaxTenants = 1000;  // each is a label of metrics and may be a namespace
constexpr int kMaxCredentials = 10000;
constexpr size_t kMaxName = 128;

template <typename... Parts>
absl::Status Bad(const std::string& field, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", parts...));
}

std::string At(absl::string_view list, int index, absl::string_view field) {
  return absl::StrCat(list, "[", index, "].", field);
}

// Names go into logs, metrics and the cache's identity.
absl::Status CheckName(const std::string& field, const std::string& name) {
  if (name.empty()) return Bad(field, "empty");
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
  });
  if (plain && name.size() <= kMaxName) return absl::OkStatus();
  return Bad(field, "\"", name, "\", expected 1 to ", kMaxName,
             " letters, digits, '-', '_' and '.'");
}

absl::Status CheckTls(const std::string& field, const TlsConfig& tls) {
  if (tls.certificate_file().empty() != tls.key_file().empty()) {
    return Bad(absl::StrCat(field, tls.key_file().empty() ? ".key_file" : ".certificate_file"),
               "empty, but TLS needs a certificate and its key");
  }
  if (tls.certificate_file().empty() && !tls.client_ca_file().empty()) {
    return Bad(absl::StrCat(field, ".certificate_file"), "empty, but client_ca_file needs TLS");
  }
  return absl::OkStatus();
}

bool DemandsCertificate(const TlsConfig& tls) {
  return !tls.client_ca_file().empty() && tls.require_client_certificate();
}

absl::Status CheckReach(const ServerConfig& c, const std::string& field, const std::string& address,
                        const TlsConfig& tls) {
  if (c.listen().allow_insecure_remote() || IsLoopback(address)) return absl::OkStatus();
  const bool mapped = c.auth().tokens_size() + c.auth().subjects_size() > 0;
  const char* missing = tls.certificate_file().empty()        ? "TLS"
                        : !mapped && !DemandsCertificate(tls) ? "authentication"
                                                              : nullptr;
  if (missing == nullptr) return absl::OkStatus();
  return Bad(
      field, "\"", address, "\" is not a loopback address and has no ", missing,
      "; set it up (docs/security.md) or allow this with listen.allow_insecure_remote: true");
}

absl::Status CheckTenantQuota(const std::string& field, int64_t value) {
  if (value >= 0 && value <= kMaxQuotaBytes) return absl::OkStatus();
  return Bad(field, value, ", expected 0 to ", kMaxQuotaBytes);
}

absl::Status CheckTenants(const ServerConfig& c) {
  if (c.tenants_size() > kMaxTenants) {
    return Bad("tenants", c.tenants_size(), " entries, expected at most ", kMaxTenants);
  }
  std::set<std::string> names;
  std::map<std::string, int> pools;  // to the first tenant that names it
  for (int i = 0; i < c.tenants_size(); ++i) {
    const TenantConfig& tenant = c.tenants(i);
    RETURN_IF_ERROR(CheckName(At("tenants", i, "name"), tenant.name()));
    if (!names.insert(tenant.name()).second) {
      return Bad(At("tenants", i, "name"), "\"", tenant.name(), "\" is listed twice");
    }
    RETURN_IF_ERROR(CheckTenantQuota(At("tenants", i, "max_host_bytes"), tenant.max_host_bytes()));
    RETURN_IF_ERROR(CheckTenantQuota(At("tenants", i, "max_disk_bytes"), tenant.max_disk_bytes()));
    if (tenant.pool().empty()) continue;
    RETURN_IF_ERROR(CheckName(At("tenants", i, "pool"), tenant.pool()));
    const TenantConfig& first = c.tenants(pools.emplace(tenant.pool(), i).first->second);
    if (first.max_host_bytes() != tenant.max_host_bytes() ||
        first.max_disk_bytes() != tenant.max_disk_bytes()) {
      return Bad(At("tenants", i, "pool"), "\"", tenant.pool(), "\" is shared with ", first.name(),
                 ", expected the same max_host_bytes and max_disk_bytes: they limit the pool");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTenant(const std::string& field, const std::string& tenant,
                         const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), tenant) != known.end()) return absl::OkStatus();
  return Bad(field, "\"", tenant, "\", expected cache.default_tenant or a name in tenants");
}

absl::Status CheckTokens(const ServerConfig& c, const std::vector<std::string>& tenants) {
  std::set<Digest> seen;
  for (int i = 0; i < c.auth().tokens_size(); ++i) {
    const auto& token = c.auth().tokens(i);
    if (token.sha256().empty() == token.file().empty()) {
      return Bad(absl::StrCat("auth.tokens[", i, "]"), "expected one of sha256 and file");
    }
    if (!token.sha256().empty()) {
      const auto digest = FromHex(token.sha256());
      if (!digest) return Bad(At("auth.tokens", i, "sha256"), "expected 64 hexadecimal digits");
      if (!seen.insert(*digest).second) return Bad(At("auth.tokens", i, "sha256"), "listed twice");
    }
    RETURN_IF_ERROR(CheckTenant(At("auth.tokens", i, "tenant"), token.tenant(), tenants));
  }
  return absl::OkStatus();
}

absl::Status CheckSubjects(const ServerConfig& c, const std::vector<std::string>& tenants) {
  for (int i = 0; i < c.auth().subjects_size(); ++i) {
    const auto& subject = c.auth().subjects(i);
    const int names = !subject.subject().empty() + !subject.common_name().empty() +
                      !subject.alternative_name().empty();
    if (names != 1) {
      return Bad(absl::StrCat("auth.subjects[", i, "]"),
                 "expected one of subject, common_name and alternative_name");
    }
    RETURN_IF_ERROR(CheckTenant(At("auth.subjects", i, "tenant"), subject.tenant(), tenants));
  }
  if (c.auth().subjects_size() == 0 || !c.listen().inference_tls().client_ca_file().empty() ||
      !c.listen().admin_tls().client_ca_file().empty()) {
    return absl::OkStatus();
  }
  return Bad("auth.subjects",
             "no port asks for certificates; set listen.inference_tls or "
             "listen.admin_tls .client_ca_file");
}

}  // namespace

bool IsLoopback(absl::string_view address) {
  const absl::string_view host = address.substr(0, address.rfind(':'));
  if (host == "localhost" || host == "[::1]") return true;
  const std::vector<absl::string_view> parts = absl::StrSplit(host, '.');
  int number = 0;
  return parts.size() == 4 && parts[0] == "127" &&
         std::all_of(parts.begin(), parts.end(),
                     [&](absl::string_view part) { return absl::SimpleAtoi(part, &number); });
}

std::vector<std::string> TenantNames(const ServerConfig& config) {
  std::vector<std::string> names = {config.cache().default_tenant()};
  for (const TenantConfig& tenant : config.tenants()) {
    if (tenant.name() != names[0]) names.push_back(tenant.name());
  }
  return names;
}

absl::Status CheckSecurity(const ServerConfig& c) {
  RETURN_IF_ERROR(CheckTls("listen.inference_tls", c.listen().inference_tls()));
  RETURN_IF_ERROR(CheckTls("listen.admin_tls", c.listen().admin_tls()));
  RETURN_IF_ERROR(CheckTenants(c));
  if (c.auth().tokens_size() + c.auth().subjects_size() > kMaxCredentials) {
    return Bad("auth", c.auth().tokens_size() + c.auth().subjects_size(),
               " tokens and subjects, expected at most ", kMaxCredentials);
  }
  const std::vector<std::string> tenants = TenantNames(c);
  RETURN_IF_ERROR(CheckTokens(c, tenants));
  RETURN_IF_ERROR(CheckSubjects(c, tenants));
  RETURN_IF_ERROR(
      CheckReach(c, "listen.inference", c.listen().inference(), c.listen().inference_tls()));
  return CheckReach(c, "listen.admin", c.listen().admin(), c.listen().admin_tls());
}

}  // namespace reprise::server
