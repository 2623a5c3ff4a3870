#include "core/base/certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/certificates.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

TEST(CertificatesTest, AcceptsWhatServesAndSaysWhatIsWrongWithTheRest) {
  const CertificateAuthority ca("ca");
  const KeyPair pair = ca.Issue("server"), other = ca.Issue("other");
  EXPECT_TRUE(CheckCertificates(ca.certificate_pem()).ok());
  EXPECT_TRUE(CheckCertificates(pair.certificate_pem + ca.certificate_pem()).ok()) << "a chain";
  EXPECT_TRUE(CheckPrivateKey(pair.key_pem, pair.certificate_pem).ok());
  EXPECT_TRUE(CheckPrivateKey(pair.key_pem, pair.certificate_pem + ca.certificate_pem()).ok());

  std::string damaged = pair.certificate_pem;
  damaged.replace(damaged.find('\n') + 8, 4, "####");
  for (const auto& [pem, problem] : std::vector<std::pair<std::string, std::string>>{
           {"", "holds no PEM certificate"},
           {"text", "holds no PEM certificate"},
           {pair.key_pem, "holds no PEM certificate"},
           {pair.certificate_pem + damaged, "holds a damaged PEM certificate"},
           {std::string((1 << 20) + 1, ' '), "more than 1 MiB"}}) {
    const absl::Status status = CheckCertificates(pem);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << problem;
    EXPECT_THAT(std::string(status.message()), HasSubstr(problem));
  }
  for (const auto& [pem, problem] : std::vector<std::pair<std::string, std::string>>{
           {"", "holds no PEM private key"},
           {pair.certificate_pem, "holds no PEM private key"},
           {other.key_pem, "is not the key of the certificate"},
           {"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "is encrypted"}}) {
    const absl::Status status = CheckPrivateKey(pem, pair.certificate_pem);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << problem;
    EXPECT_THAT(std::string(status.message()), HasSubstr(problem));
  }
}

}  // namespace
}  // namespace reprise
