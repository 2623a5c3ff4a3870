#include "core/base/certificates.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "absl/strings/match.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

constexpr size_t kMaxPemBytes = size_t{1} << 20;

Owned<BIO> Open(absl::string_view pem) {
  return Owned<BIO>(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// In place of asking for one at the terminal.
int NoPassphrase(char*, int, int, void*) { return 0; }

Owned<X509> ReadCertificate(BIO* bio) {
  return Owned<X509>(PEM_read_bio_X509(bio, nullptr, NoPassphrase, nullptr));
}

// The end of the text is reported as a missing first line.
bool AtEnd() { return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE; }

absl::Status CheckSize(absl::string_view pem) {
  if (pem.size() <= kMaxPemBytes) return absl::OkStatus();
  return absl::InvalidArgumentError("more than 1 MiB");
}

}  // namespace

absl::Status CheckCertificates(absl::string_view pem) {
  RETURN_IF_ERROR(CheckSize(pem));
  const Owned<BIO> bio = Open(pem);
  ERR_clear_error();
  int count = 0;
  while (const Owned<X509> certificate = ReadCertificate(bio.get())) ++count;
  const bool complete = AtEnd();
  ERR_clear_error();
  if (count == 0) return absl::InvalidArgumentError("holds no PEM certificate");
  if (!complete) return absl::InvalidArgumentError("holds a damaged PEM certificate");
  return absl::OkStatus();
}

absl::Status CheckPrivateKey(absl::string_view key_pem, absl::string_view certificate_pem) {
  RETURN_IF_ERROR(CheckSize(key_pem));
  const Owned<BIO> key_bio = Open(key_pem), certificate_bio = Open(certificate_pem);
  ERR_clear_error();
  const Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, NoPassphrase, nullptr));
  const Owned<X509> certificate = ReadCertificate(certificate_bio.get());
  const bool fits = key != nullptr && certificate != nullptr &&
                    X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError(absl::StrContains(key_pem, "ENCRYPTED")
                                          ? "is encrypted, expected a key without a passphrase"
                                          : "holds no PEM private key");
  }
  if (!fits) return absl::InvalidArgumentError("is not the key of the certificate");
  return absl::OkStatus();
}

}  // namespace reprise
