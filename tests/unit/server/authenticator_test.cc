#include "server/authenticator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"

namespace reprise::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kAlice[] = "alice-token-0123456789";
constexpr char kAdmin[] = "admin-token-0123456789";
constexpr auto kInference = config::v1::ROLE_INFERENCE;
constexpr auto kAdminRole = config::v1::ROLE_ADMIN;

AuthPolicy Policy() {
  AuthPolicy policy;
  policy.default_tenant = "default";
  policy.tokens = {{Sha256(AsBytes(kAlice)), {"alice", kInference}},
                   {Sha256(AsBytes(kAdmin)), {"ops", kAdminRole}}};
  policy.subjects = {{"CN=bob,O=Acme", "", "", {"bob", kInference}},
                     {"", "carol", "", {"carol", config::v1::ROLE_ALL}},
                     {"", "", "spiffe://acme/dave", {"dave", kInference}},
                     {"", "", "spiffe://acme/both", {"first", kInference}},
                     {"", "both", "", {"second", kInference}}};
  return policy;
}

TEST(AuthenticatorTest, TellsTheTenantByTokenOrCertificate) {
  const std::string alice = absl::StrCat("Bearer ", kAlice);
  struct Case {
    const char* name;
    PeerFacts peer;
    config::v1::Role role;
    absl::StatusCode code;
    const char* tenant_or_problem;
  };
  using enum absl::StatusCode;
  const std::string longest = absl::StrCat("Bearer ", std::string(kMaxTokenBytes + 1, 'a'));
  const Case cases[] = {
      {"token", {{alice}}, kInference, kOk, "alice"},
      {"scheme in lower case", {{absl::StrCat("bearer   ", kAlice)}}, kInference, kOk, "alice"},
      {"role", {{alice}}, kAdminRole, kPermissionDenied, "not for calls on this port"},
      {"admin", {{absl::StrCat("Bearer ", kAdmin)}}, kAdminRole, kOk, "ops"},
      {"admin elsewhere", {{absl::StrCat("Bearer ", kAdmin)}}, kInference, kPermissionDenied, ""},
      {"nothing", {}, kInference, kUnauthenticated, "no credential"},
      {"unknown", {{"Bearer mallory-0123456789"}}, kInference, kUnauthenticated, "unknown bearer"},
      {"a prefix", {{alice.substr(0, alice.size() - 1)}}, kInference, kUnauthenticated, "unknown"},
      {"twice", {{alice, alice}}, kInference, kUnauthenticated, "more than one"},
      {"basic", {{"Basic YTpi"}}, kInference, kUnauthenticated, "another scheme"},
      {"empty header", {{""}}, kInference, kUnauthenticated, "another scheme"},
      {"no token", {{"Bearer "}}, kInference, kUnauthenticated, "malformed"},
      {"too short", {{"Bearer 0123456789abcde"}}, kInference, kUnauthenticated, "malformed"},
      {"no blank", {{"Bearer"}}, kInference, kUnauthenticated, "another scheme"},
      {"two words", {{alice + " x"}}, kInference, kUnauthenticated, "malformed"},
      {"control byte", {{alice + '\0'}}, kInference, kUnauthenticated, "malformed"},
      {"too long", {{longest}}, kInference, kUnauthenticated, "malformed"},
      {"subject", {{}, "CN=bob,O=Acme", {"bob"}, {}}, kInference, kOk, "bob"},
      {"other organisation",
       {{}, "CN=bob,O=Evil", {"bob"}, {}},
       kInference,
       kUnauthenticated,
       "unknown client certificate"},
      {"common name", {{}, "CN=carol", {"carol"}, {}}, kInference, kOk, "carol"},
      {"all roles", {{}, "CN=carol", {"carol"}, {}}, kAdminRole, kOk, "carol"},
      {"a name of another kind", {{}, "CN=x", {"x"}, {"carol"}}, kInference, kUnauthenticated, ""},
      {"alternative name",
       {{}, "", {}, {"localhost", "spiffe://acme/dave"}},
       kInference,
       kOk,
       "dave"},
      {"the first that fits",
       {{}, "CN=both", {"both"}, {"spiffe://acme/both"}},
       kInference,
       kOk,
       "first"},
      {"token before certificate", {{alice}, "CN=carol", {"carol"}, {}}, kInference, kOk, "alice"},
      {"a bad token beside a good certificate",
       {{"Bearer mallory-0123456789"}, "CN=carol", {"carol"}, {}},
       kInference,
       kUnauthenticated,
       "unknown bearer"},
  };
  for (const Case& c : cases) {
    const auto caller = Authenticate(Policy(), c.peer, c.role);
    EXPECT_EQ(caller.status().code(), c.code) << c.name;
    const std::string text = caller.ok() ? caller->tenant : std::string(caller.status().message());
    EXPECT_THAT(text, HasSubstr(c.tenant_or_problem)) << c.name;
    EXPECT_THAT(std::string(caller.status().message()), Not(HasSubstr("0123456789"))) << c.name;
  }
}

TEST(AuthenticatorTest, WithoutCredentialsToKnowEverybodyIsTheDefaultTenant) {
  const AuthPolicy policy{.default_tenant = "default"};
  for (const PeerFacts& peer : {PeerFacts{}, PeerFacts{{"Bearer x"}}}) {
    const auto caller = Authenticate(policy, peer, kAdminRole);
    ASSERT_TRUE(caller.ok());
    EXPECT_EQ(caller->tenant, "default");
  }
}

class TokenFileTest : public ::testing::Test {
 protected:
  TokenFileTest() { path_ = absl::StrCat(::testing::TempDir(), "/token.", getpid()); }
  ~TokenFileTest() override { unlink(path_.c_str()); }

  absl::StatusOr<AuthPolicy> Load(const std::string& text) {
    std::ofstream(path_, std::ios::binary) << text;
    config::v1::ServerConfig config;
    config.mutable_cache()->set_default_tenant("default");
    auto& token = *config.mutable_auth()->add_tokens();
    token.set_file(path_);
    token.set_tenant("alice");
    return LoadAuthPolicy(config);
  }

  std::string path_;
};

TEST_F(TokenFileTest, HoldsTheTokenAndPerhapsALineEnd) {
  for (const char* end : {"", "\n", "\r\n", "  \n\n"}) {
    const auto policy = Load(absl::StrCat(kAlice, end));
    ASSERT_TRUE(policy.ok()) << policy.status();
    const auto caller = Authenticate(*policy, {{absl::StrCat("Bearer ", kAlice)}}, kInference);
    ASSERT_TRUE(caller.ok()) << caller.status();
    EXPECT_EQ(caller->tenant, "alice");
    EXPECT_EQ(caller->role, kInference) << "unless the configuration says more";
  }
}

TEST_F(TokenFileTest, IsRefusedByNameWithoutItsText) {
  for (const std::string& text :
       {std::string(), std::string("short"), std::string("two 0123456789 words"),
        std::string(kMaxTokenBytes + 1, 'a')}) {
    const auto policy = Load(text);
    ASSERT_TRUE(absl::IsInvalidArgument(policy.status())) << text.substr(0, 20);
    EXPECT_THAT(std::string(policy.status().message()),
                HasSubstr(absl::StrCat("auth.tokens[0].file: ", path_, ": expected one token")));
    if (!text.empty())
      EXPECT_THAT(std::string(policy.status().message()), Not(HasSubstr(text.substr(0, 20))));
  }
  config::v1::ServerConfig config;
  config.mutable_auth()->add_tokens()->set_file("/no/such/file");
  EXPECT_THAT(std::string(LoadAuthPolicy(config).status().message()),
              HasSubstr("auth.tokens[0].file: /no/such/file: cannot be opened"));
}

}  // namespace
}  // namespace reprise::server
