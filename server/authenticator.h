// Who a caller is: a pure function of the policy and what the caller presented.
//
// A bearer token counts before a certificate; one that is unknown or malformed is an
// error even beside a certificate that would do. Tokens are known by their SHA-256
// only, compared with all known ones in a time that depends on none of them, and in no
// error or log. Without tokens and subjects in the policy everybody is the default tenant.
//
// Errors     kUnauthenticated: no credential, or none that the policy knows.
//            kPermissionDenied: known, but not in this role. No error says more of what
//            the policy holds.
// Threading  pure functions.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/digest.h"
#include "reprise/config/v1/server_config.pb.h"

namespace reprise::server {

constexpr size_t kMinTokenBytes = 16;
constexpr size_t kMaxTokenBytes = 4096;

struct CallerIdentity {
  std::string tenant;
  config::v1::Role role = config::v1::ROLE_INFERENCE;
};

struct AuthPolicy {
  struct Token {
    Digest sha256{};
    CallerIdentity caller;
  };
  struct Subject {
    std::string subject, common_name, alternative_name;  // one of them is set
    CallerIdentity caller;
  };

  std::string default_tenant;
  std::vector<Token> tokens;
  std::vector<Subject> subjects;  // the first that fits counts
};

// What a caller presented. The certificate's names are empty unless a CA that the server
// trusts signed it.
struct PeerFacts {
  std::vector<std::string> authorization;  // values of the header
  std::string subject;                     // RFC 2253
  std::vector<std::string> common_names;
  std::vector<std::string> alternative_names;
};

// Reads the token files that `config` names. kInvalidArgument naming the field and the file:
// it cannot be read, or its token is malformed or there twice.
absl::StatusOr<AuthPolicy> LoadAuthPolicy(const config::v1::ServerConfig& config);

// The token of a header "Bearer TOKEN" (RFC 6750; the scheme in any case), if it is one.
absl::StatusOr<absl::string_view> ParseBearer(absl::string_view header);

// The caller in `role`, which is ROLE_INFERENCE or ROLE_ADMIN.
absl::StatusOr<CallerIdentity> Authenticate(const AuthPolicy& policy, const PeerFacts& peer,
                                            config::v1::Role role);

}  // namespace reprise::server
