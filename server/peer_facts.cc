#include "server/peer_facts.h"

#include <grpc/grpc_security_constants.h>

namespace reprise::server {
namespace {

std::vector<std::string> Values(const grpc::AuthContext& auth, const char* property) {
  std::vector<std::string> values;
  for (const grpc::string_ref& value : auth.FindPropertyValues(property)) {
    values.emplace_back(value.data(), value.size());
  }
  return values;
}

}  // namespace

PeerFacts PeerFactsOf(const grpc::ServerContextBase& context) {
  PeerFacts facts;
  const auto [begin, end] = context.client_metadata().equal_range("authorization");
  for (auto it = begin; it != end; ++it) {
    facts.authorization.emplace_back(it->second.data(), it->second.size());
  }
  // Names of a certificate are there only when a trusted CA signed it.
  const auto auth = context.auth_context();
  if (auth == nullptr || !auth->IsPeerAuthenticated()) return facts;
  const std::vector<std::string> subjects = Values(*auth, GRPC_X509_SUBJECT_PROPERTY_NAME);
  if (!subjects.empty()) facts.subject = subjects[0];
  facts.common_names = Values(*auth, GRPC_X509_CN_PROPERTY_NAME);
  facts.alternative_names = Values(*auth, GRPC_X509_SAN_PROPERTY_NAME);
  return facts;
}

}  // namespace reprise::server
