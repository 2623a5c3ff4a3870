#include "server/tls.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/base/certificates.h"
#include "core/base/status_macros.h"

namespace reprise::server {
namespace {

using grpc::experimental::CertificateProviderInterface;
using grpc::experimental::FileWatcherCertificateProvider;
using grpc::experimental::StaticDataCertificateProvider;
using grpc::experimental::TlsServerCredentialsOptions;

struct Files {
  std::string certificate, key, client_ca;
};

absl::Status At(const TlsOptions& options, absl::string_view field, const std::string& file,
                const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(
      absl::StrCat(options.field, ".", field, ": ", file, ": ", status.message()));
}

absl::StatusOr<std::string> Read(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return absl::InvalidArgumentError("cannot be opened");
  std::string text((size_t{1} << 20) + 1, '\0');  // what is longer is refused by its check
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) return absl::InvalidArgumentError("cannot be read");
  text.resize(static_cast<size_t>(stream.gcount()));
  return text;
}

absl::StatusOr<Files> ReadChecked(const TlsOptions& o) {
  Files files;
  const auto certificate = Read(o.certificate_file), key = Read(o.key_file);
  RETURN_IF_ERROR(At(o, "certificate_file", o.certificate_file, certificate.status()));
  RETURN_IF_ERROR(At(o, "key_file", o.key_file, key.status()));
  RETURN_IF_ERROR(At(o, "certificate_file", o.certificate_file, CheckCertificates(*certificate)));
  RETURN_IF_ERROR(At(o, "key_file", o.key_file, CheckPrivateKey(*key, *certificate)));
  files.certificate = *certificate;
  files.key = *key;
  if (o.client_ca_file.empty()) return files;
  const auto client_ca = Read(o.client_ca_file);
  RETURN_IF_ERROR(At(o, "client_ca_file", o.client_ca_file, client_ca.status()));
  RETURN_IF_ERROR(At(o, "client_ca_file", o.client_ca_file, CheckCertificates(*client_ca)));
  files.client_ca = *client_ca;
  return files;
}

std::shared_ptr<CertificateProviderInterface> MakeProvider(const TlsOptions& o,
                                                           const Files& files) {
  if (o.reload_interval <= absl::ZeroDuration()) {
    return std::make_shared<StaticDataCertificateProvider>(
        files.client_ca,
        std::vector<grpc::experimental::IdentityKeyCertPair>{{files.key, files.certificate}});
  }
  const auto seconds =
      static_cast<unsigned>(std::max<int64_t>(absl::ToInt64Seconds(o.reload_interval), 1));
  return std::make_shared<FileWatcherCertificateProvider>(o.key_file, o.certificate_file,
                                                          o.client_ca_file, seconds);
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsOptions& options) {
  if (options.certificate_file.empty()) return grpc::InsecureServerCredentials();
  ASSIGN_OR_RETURN(const Files files, ReadChecked(options));
  TlsServerCredentialsOptions tls(MakeProvider(options, files));
  tls.watch_identity_key_cert_pairs();
  if (!options.client_ca_file.empty()) {
    tls.watch_root_certs();
    tls.set_cert_request_type(options.require_client_certificate
                                  ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                  : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(tls);
}

absl::Status CheckTlsFiles(const TlsOptions& options) {
  if (options.certificate_file.empty()) return absl::OkStatus();
  return ReadChecked(options).status();
}

// gRPC 1.51 has no setting for it. Its least version is 1.2, whose cipher suites it takes from
// the environment, while those of 1.3 are always on: with none for 1.2 but one that needs
// a pre-shared key, which no port has, only 1.3 can be agreed on.
void SetLeastTlsVersion(TlsVersion version) {
  if (version == TlsVersion::k1_3) setenv("GRPC_SSL_CIPHER_SUITES", "PSK-AES256-GCM-SHA384", 1);
}

}  // namespace reprise::server
