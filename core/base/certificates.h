// Checks of PEM certificates and keys, so that a wrong file is an error that says what is
// wrong with it instead of handshakes that fail.
//
// Errors     kInvalidArgument saying what is wrong with the text; the caller names its file.
// Threading  pure functions.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace reprise {

// At least one certificate, each readable.
absl::Status CheckCertificates(absl::string_view pem);

// `key_pem` is an unencrypted private key, and that of the first certificate of
// `certificate_pem`, which CheckCertificates accepts.
absl::Status CheckPrivateKey(absl::string_view key_pem, absl::string_view certificate_pem);

}  // namespace reprise
