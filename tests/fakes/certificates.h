// Certificates made on the spot: a CA and what it signs, for tests of TLS.
//
// Threading  each object is used by one thread.
#pragma once

#include <memory>
#include <string>

namespace reprise {

struct KeyPair {
  std::string certificate_pem;
  std::string key_pem;
};

class CertificateAuthority {
 public:
  explicit CertificateAuthority(const std::string& name);
  ~CertificateAuthority();

  // A certificate for "localhost" and 127.0.0.1 with this common name; `uri` is one more
  // subject alternative name.
  KeyPair Issue(const std::string& common_name, const std::string& uri = "") const;

  const std::string& certificate_pem() const { return certificate_pem_; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string certificate_pem_;
};

}  // namespace reprise
