#include "server/authenticator.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise::server {
namespace {

using config::v1::Role;

// What RFC 6750 allows in a token, too long to be guessed.
bool IsToken(absl::string_view text) {
  return text.size() >= kMinTokenBytes && text.size() <= kMaxTokenBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(c) || absl::StrContains("-._~+/=", absl::string_view(&c, 1));
         });
}

absl::Status Unknown(absl::string_view problem) {
  return absl::UnauthenticatedError(
      absl::StrCat(problem,
                   "; expected \"authorization: Bearer TOKEN\" or a client certificate "
                   "that the server's configuration knows"));
}

std::optional<CallerIdentity> FindToken(const AuthPolicy& policy, absl::string_view token) {
  const Digest digest = Sha256(AsBytes(token));
  std::optional<CallerIdentity> found;
  for (const AuthPolicy::Token& known : policy.tokens) {
    if (EqualInConstantTime(known.sha256, digest)) found = known.caller;
  }
  return found;
}

bool Contains(const std::vector<std::string>& values, const std::string& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool Fits(const AuthPolicy::Subject& known, const PeerFacts& peer) {
  if (!known.subject.empty()) return known.subject == peer.subject;
  if (!known.common_name.empty()) return Contains(peer.common_names, known.common_name);
  return !known.alternative_name.empty() &&
         Contains(peer.alternative_names, known.alternative_name);
}

absl::StatusOr<CallerIdentity> Identify(const AuthPolicy& policy, const PeerFacts& peer) {
  if (peer.authorization.size() > 1) return Unknown("more than one authorization header");
  if (!peer.authorization.empty()) {
    ASSIGN_OR_RETURN(const absl::string_view token, ParseBearer(peer.authorization[0]));
    if (auto caller = FindToken(policy, token)) return *std::move(caller);
    return Unknown("unknown bearer token");
  }
  for (const AuthPolicy::Subject& subject : policy.subjects) {
    if (Fits(subject, peer)) return subject.caller;
  }
  const bool has_certificate =
      !peer.subject.empty() || !peer.common_names.empty() || !peer.alternative_names.empty();
  return Unknown(has_certificate ? "unknown client certificate" : "no credential");
}

absl::StatusOr<Digest> ReadToken(const std::string& field, const std::string& path) {
  const auto error = [&](absl::string_view problem) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": ", path, ": ", problem));
  };
  std::ifstream file(path, std::ios::binary);
  if (!file) return error("cannot be opened");
  std::string text(kMaxTokenBytes + 16, '\0');  // white space at its end included
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return error("cannot be read");
  text.resize(static_cast<size_t>(file.gcount()));
  absl::StripTrailingAsciiWhitespace(&text);
  if (!IsToken(text)) {
    return error(absl::StrCat("expected one token of ", kMinTokenBytes, " to ", kMaxTokenBytes,
                              " letters, digits and -._~+/="));
  }
  return Sha256(AsBytes(text));
}

Role RoleOf(Role role) {
  return role == config::v1::ROLE_UNSPECIFIED ? config::v1::ROLE_INFERENCE : role;
}

}  // namespace

absl::StatusOr<AuthPolicy> LoadAuthPolicy(const config::v1::ServerConfig& config) {
  AuthPolicy policy;
  policy.default_tenant = config.cache().default_tenant();
  std::set<Digest> seen;
  for (int i = 0; i < config.auth().tokens_size(); ++i) {
    const auto& token = config.auth().tokens(i);
    const std::string field = absl::StrCat("auth.tokens[", i, "].file");
    Digest digest{};
    if (const auto given = FromHex(token.sha256())) {
      digest = *given;
    } else {
      ASSIGN_OR_RETURN(digest, ReadToken(field, token.file()));
    }
    if (!seen.insert(digest).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("auth.tokens[", i, "]: the same token as an entry before it"));
    }
    policy.tokens.push_back({digest, {token.tenant(), RoleOf(token.role())}});
  }
  for (const auto& subject : config.auth().subjects()) {
    policy.subjects.push_back({subject.subject(),
                               subject.common_name(),
                               subject.alternative_name(),
                               {subject.tenant(), RoleOf(subject.role())}});
  }
  return policy;
}

absl::StatusOr<absl::string_view> ParseBearer(absl::string_view header) {
  constexpr absl::string_view kScheme = "bearer";
  const bool is_bearer = absl::StartsWithIgnoreCase(header, kScheme) &&
                         header.size() > kScheme.size() && header[kScheme.size()] == ' ';
  if (!is_bearer) return Unknown("an authorization header of another scheme");
  header.remove_prefix(kScheme.size());
  while (absl::StartsWith(header, " ")) header.remove_prefix(1);
  if (!IsToken(header)) return Unknown("a malformed bearer token");
  return header;
}

absl::StatusOr<CallerIdentity> Authenticate(const AuthPolicy& policy, const PeerFacts& peer,
                                            Role role) {
  if (policy.tokens.empty() && policy.subjects.empty()) {
    return CallerIdentity{policy.default_tenant, config::v1::ROLE_ALL};
  }
  ASSIGN_OR_RETURN(CallerIdentity caller, Identify(policy, peer));
  if (caller.role == config::v1::ROLE_ALL || caller.role == role) return caller;
  return absl::PermissionDeniedError("this credential is not for calls on this port");
}

}  // namespace reprise::server
