// Authorization headers through the authenticator: split at line ends into values.
#include "absl/strings/str_split.h"
#include "server/authenticator.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {

constexpr char kToken[] = "token-0123456789.-_~+/=";

std::vector<std::string> FuzzSeeds() {
  return {std::string("Bearer ") + kToken, std::string("bearer  ") + kToken,
          std::string("Bearer ") + kToken + "\nBearer x", "Basic YTpi", "CN=alice,O=Acme"};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  using fuzz::Require;
  const std::string text(fuzz::Text(data, size));
  server::AuthPolicy policy;
  policy.default_tenant = "default";
  policy.tokens = {{Sha256(AsBytes(fuzz::kToken)), {"alice", config::v1::ROLE_INFERENCE}}};
  const std::vector<std::string> headers = absl::StrSplit(text, '\n');
  const auto caller = server::Authenticate(policy, {headers}, config::v1::ROLE_INFERENCE);
  const auto token = server::ParseBearer(headers[0]);
  const bool right = headers.size() == 1 && token.ok() && *token == fuzz::kToken;
  Require(caller.ok() == right, "the token and nothing else lets a caller in");
  Require(caller.ok() || caller.status().message().find(fuzz::kToken) == absl::string_view::npos,
          "no error shows a token");
  Require(!token.ok() || (!token->empty() && token->size() <= server::kMaxTokenBytes),
          "a token has a size that is allowed");
  Require(!FromHex(text) || size == 64, "a digest has 64 digits");
  return 0;
}
