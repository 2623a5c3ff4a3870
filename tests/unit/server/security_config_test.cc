#include "server/security_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/config_loader.h"

namespace reprise::server {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kHash(64, 'a');

TEST(SecurityConfigTest, ErrorsNameFieldAndValue) {
  const std::string token = absl::StrCat("{sha256: ", kHash, ", tenant: default}");
  struct Case {
    std::vector<std::string> settings;
    const char* error;  // "" for none
  };
  const Case cases[] = {
      {{absl::StrCat("auth.tokens=[", token, "]")}, ""},
      {{absl::StrCat("auth.tokens=[", token, ", ", token, "]")},
       "auth.tokens[1].sha256: listed twice"},
      {{"auth.tokens=[{sha256: abc, tenant: default}]"}, "auth.tokens[0].sha256: expected 64"},
      {{"auth.tokens=[{tenant: default}]"}, "auth.tokens[0]: expected one of sha256 and file"},
      {{"auth.tokens=[{file: f, tenant: x}]"}, "auth.tokens[0].tenant: \"x\", expected"},
      {{"auth.tokens=[{file: f, tenant: x}]", "tenants=[{name: x}]"}, ""},
      {{"auth.tokens=[{file: f, tenant: default, role: ROOT}]"},
       "auth.tokens[0].role: expected one of INFERENCE, ADMIN, ALL"},
      {{"auth.tokens=[{fil: f}]"}, "auth.tokens[0].fil: unknown key"},
      {{"auth.tokens=7"}, "auth.tokens: expected a list"},
      {{"auth.tokens=[7]"}, "auth.tokens[0]: expected a map"},
      {{"auth.tokens=[*a]"}, "auth.tokens: "},
      {{"auth.tokens.file=f"}, "auth.tokens.file: unknown key"},
      {{"auth.subjects=[{common_name: a, tenant: default}]"}, "auth.subjects: no port asks"},
      {{"auth.subjects=[{common_name: a, subject: CN=a, tenant: default}]"},
       "auth.subjects[0]: expected one of"},
      {{"listen.admin_tls.certificate_file=c"}, "listen.admin_tls.key_file: empty"},
      {{"listen.inference_tls.key_file=c"}, "listen.inference_tls.certificate_file: empty"},
      {{"listen.inference_tls.client_ca_file=c"}, "listen.inference_tls.certificate_file: empty"},
      {{"tenants=[{name: a}, {name: a}]"}, "tenants[1].name: \"a\" is listed twice"},
      {{"tenants=[{name: a b}]"}, "tenants[0].name: \"a b\", expected 1 to 128"},
      {{"tenants=[{pool: p}]"}, "tenants[0].name: empty"},
      {{"tenants=[{name: a, max_host_bytes: -1}]"}, "tenants[0].max_host_bytes: -1, expected 0 to"},
      {{"tenants=[{name: a, pool: p}, {name: b, pool: p, max_disk_bytes: 1}]"},
       "tenants[1].pool: \"p\" is shared with a"},
      {{"tenants=[{name: a, pool: p, max_disk_bytes: 1}, {name: b, pool: p, max_disk_bytes: 1}]"},
       ""},
  };
  for (const Case& c : cases) {
    const auto config = LoadConfig("", c.settings);
    EXPECT_EQ(config.ok(), *c.error == '\0') << absl::StrJoin(c.settings, " ") << config.status();
    if (!config.ok()) EXPECT_THAT(std::string(config.status().message()), HasSubstr(c.error));
  }
}

TEST(SecurityConfigTest, NothingListensBeyondLoopbackInsecurelyUnlessToldTo) {
  const std::string remote = "listen.inference=0.0.0.0:1";
  const std::vector<std::string> tls = {remote, "listen.inference_tls.certificate_file=c",
                                        "listen.inference_tls.key_file=k"};
  const auto with = [](std::vector<std::string> settings, const std::string& more) {
    settings.push_back(more);
    return LoadConfig("", settings).status();
  };
  EXPECT_THAT(
      std::string(LoadConfig("", {remote}).status().message()),
      StartsWith("listen.inference: \"0.0.0.0:1\" is not a loopback address and has no TLS"));
  EXPECT_THAT(std::string(LoadConfig("", tls).status().message()),
              HasSubstr("has no authentication"));
  EXPECT_TRUE(with({remote}, "listen.allow_insecure_remote=true").ok());
  EXPECT_TRUE(with(tls, absl::StrCat("auth.tokens=[{sha256: ", kHash, ", tenant: default}]")).ok());
  EXPECT_TRUE(with(tls, "listen.inference_tls.client_ca_file=ca").ok());
  EXPECT_FALSE(
      with({remote}, absl::StrCat("auth.tokens=[{sha256: ", kHash, ", tenant: default}]")).ok())
      << "tokens in plain text";
  EXPECT_FALSE(LoadConfig("", {"listen.admin=10.0.0.1:1"}).ok());
  for (const char* address : {"127.0.0.1:1", "127.8.0.1:1", "localhost:1", "[::1]:1"})
    EXPECT_TRUE(IsLoopback(address)) << address;
  for (const char* address :
       {"0.0.0.0:1", "[::]:1", "127.0.0.1.example.com:1", "127.evil:1", "host:1"})
    EXPECT_FALSE(IsLoopback(address)) << address;
}

}  // namespace
}  // namespace reprise::server
