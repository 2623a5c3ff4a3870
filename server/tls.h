// TLS of a port: certificates, key and client CA from files that may be rotated while
// the server runs.
//
// Rotation   the files are read again at an interval; handshakes after that use the new ones,
//            connections stay. A certificate without its key, as between the two writes of
//            a rotation, fails handshakes until the next reading.
// Errors     kInvalidArgument naming field and file: it cannot be read, or is not what the
//            field asks for.
// Threading  called before the server starts.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace grpc {
class ServerCredentials;
}  // namespace grpc

namespace reprise::server {

enum class TlsVersion { k1_2, k1_3 };

struct TlsOptions {
  std::string field;             // "listen.admin_tls", for errors
  std::string certificate_file;  // empty: no TLS
  std::string key_file;
  std::string client_ca_file;  // empty: clients are asked for no certificate
  bool require_client_certificate = true;
  absl::Duration reload_interval = absl::Minutes(1);  // in whole seconds; zero: never
};

// Credentials of a port; those of plain text when there is no certificate.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsOptions& options);

// Whether the files that `options` names are what they should be.
absl::Status CheckTlsFiles(const TlsOptions& options);

// For the whole process; called before its first use of gRPC, which reads this once.
void SetLeastTlsVersion(TlsVersion version);

}  // namespace reprise::server
