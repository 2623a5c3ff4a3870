// TLS, client certificates and tokens over both ports, with certificates made here.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "tests/fakes/certificates.h"
#include "tests/integration/test_server.h"

namespace reprise {
namespace {

using client::ClientOptions;

constexpr char kAlice[] = "alice-token-0123456789";
constexpr char kOperator[] = "operator-token-0123456789";

// A folder of PEM files, removed at the end.
class PemFolder {
 public:
  PemFolder() {
    path_ = absl::StrCat(::testing::TempDir(), "/pem.XXXXXX");
    EXPECT_NE(mkdtemp(path_.data()), nullptr);
  }
  ~PemFolder() {
    for (const std::string& file : files_) unlink(file.c_str());
    rmdir(path_.c_str());
  }

  // In one piece, as a rotation should.
  std::string Write(const std::string& name, const std::string& text) {
    const std::string file = absl::StrCat(path_, "/", name), part = file + ".part";
    std::ofstream(part) << text;
    EXPECT_EQ(rename(part.c_str(), file.c_str()), 0);
    files_.push_back(file);
    return file;
  }

 private:
  std::string path_;
  std::vector<std::string> files_;
};

class SecurityTest : public ::testing::Test {
 protected:
  void UseTls(server::TlsOptions& tls, bool client_ca, bool required) {
    tls.certificate_file = pem_.Write("cert.pem", server_pair_.certificate_pem);
    tls.key_file = pem_.Write("key.pem", server_pair_.key_pem);
    if (client_ca) tls.client_ca_file = pem_.Write("ca.pem", client_ca_.certificate_pem());
    tls.require_client_certificate = required;
  }

  void UseTls(bool client_ca = false, bool required = false) {
    UseTls(options_.grpc.inference_tls, client_ca, required);
    UseTls(options_.grpc.admin_tls, client_ca, required);
  }

  void UseTokens() {
    options_.auth.tokens = {{Sha256(AsBytes(kAlice)), {"alice", config::v1::ROLE_INFERENCE}},
                            {Sha256(AsBytes(kOperator)), {"ops", config::v1::ROLE_ADMIN}}};
  }

  void Start() { server_ = std::make_unique<TestServer>(options_); }

  ClientOptions Caller(const std::string& token = "", const KeyPair& pair = {}) {
    ClientOptions options;
    options.address = absl::StrCat("127.0.0.1:", server_->grpc().inference_port());
    options.admin_address = absl::StrCat("127.0.0.1:", server_->grpc().admin_port());
    options.timeout = absl::Seconds(10);
    options.token = token;
    options.certificate_pem = pair.certificate_pem;
    options.key_pem = pair.key_pem;
    return options;
  }

  ClientOptions TlsCaller(const std::string& token = "", const KeyPair& pair = {}) {
    ClientOptions options = Caller(token, pair);
    options.ca_pem = server_ca_.certificate_pem();
    options.server_name = "localhost";
    return options;
  }

  // The codes of a call on the inference port and one on the admin port.
  static std::pair<absl::StatusCode, absl::StatusCode> Codes(const ClientOptions& caller) {
    client::Client client(caller);
    return {client.Generate(TextSpec("hello", 2)).status().code(),
            client.GetCacheStats().status().code()};
  }

  CertificateAuthority server_ca_{"server ca"}, client_ca_{"client ca"};
  KeyPair server_pair_ = server_ca_.Issue("server");
  PemFolder pem_;
  TestServerOptions options_;
  std::unique_ptr<TestServer> server_;
};

using enum absl::StatusCode;
using Pair = std::pair<absl::StatusCode, absl::StatusCode>;

TEST_F(SecurityTest, TokensOpenThePortOfTheirRoleAndNothingElse) {
  UseTokens();
  Start();
  EXPECT_EQ(Codes(Caller()), Pair(kUnauthenticated, kUnauthenticated));
  EXPECT_EQ(Codes(Caller("mallory-token-0123456789")), Pair(kUnauthenticated, kUnauthenticated));
  EXPECT_EQ(Codes(Caller(kAlice)), Pair(kOk, kPermissionDenied));
  EXPECT_EQ(Codes(Caller(kOperator)), Pair(kPermissionDenied, kOk));
  server_->AwaitEnded(4, "UNAUTHENTICATED");
  server_->AwaitEnded(2, "PERMISSION_DENIED");
}

TEST_F(SecurityTest, ACallWithABadMessageIsAuthenticatedFirst) {
  UseTokens();
  Start();
  grpc::GenericStub stub(grpc::CreateChannel(Caller().address, grpc::InsecureChannelCredentials()));
  for (const auto& [token, code] : std::vector<std::pair<std::string, grpc::StatusCode>>{
           {"", grpc::StatusCode::UNAUTHENTICATED}, {kAlice, grpc::StatusCode::INVALID_ARGUMENT}}) {
    grpc::ClientContext context;
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
    grpc::CompletionQueue queue;
    const grpc::Slice bytes("\xff\xff\xff");
    const auto call =
        stub.PrepareUnaryCall(&context, "/reprise.inference.v1.GenerationService/Generate",
                              grpc::ByteBuffer(&bytes, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer reply;
    grpc::Status status;
    call->Finish(&reply, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_EQ(status.error_code(), code) << status.error_message();
  }
}

TEST_F(SecurityTest, TlsServesBothPortsAndNobodyInPlainText) {
  UseTls();
  Start();
  EXPECT_EQ(Codes(TlsCaller()), Pair(kOk, kOk));
  ClientOptions plain = Caller(), stranger = TlsCaller();
  plain.timeout = stranger.timeout = absl::Seconds(2);
  stranger.ca_pem = client_ca_.certificate_pem();
  EXPECT_NE(Codes(plain).first, kOk);
  EXPECT_EQ(Codes(stranger), Pair(kUnavailable, kUnavailable)) << "not the CA that signed it";
}

TEST_F(SecurityTest, ACertificateIsDemandedAndItsSubjectTellsTheTenant) {
  UseTls(/*client_ca=*/true, /*required=*/true);
  options_.auth.subjects = {{"", "alice", "", {"alice", config::v1::ROLE_INFERENCE}},
                            {"", "", "spiffe://acme/ops", {"ops", config::v1::ROLE_ADMIN}},
                            {"CN=carol", "", "", {"carol", config::v1::ROLE_ALL}}};
  Start();
  const auto with = [&](const KeyPair& pair) {
    ClientOptions caller = TlsCaller("", pair);
    caller.timeout = absl::Seconds(2);
    return Codes(caller);
  };
  EXPECT_EQ(with(client_ca_.Issue("alice")), Pair(kOk, kPermissionDenied));
  EXPECT_EQ(with(client_ca_.Issue("x", "spiffe://acme/ops")), Pair(kPermissionDenied, kOk));
  EXPECT_EQ(with(client_ca_.Issue("carol")), Pair(kOk, kOk)) << "by its whole subject";
  EXPECT_EQ(with(client_ca_.Issue("mallory")), Pair(kUnauthenticated, kUnauthenticated));
  EXPECT_EQ(with({}), Pair(kUnavailable, kUnavailable)) << "no certificate";
  EXPECT_EQ(with(server_ca_.Issue("alice")), Pair(kUnavailable, kUnavailable)) << "another CA's";
}

TEST_F(SecurityTest, ACertificateMayBeOptionalBesideTokens) {
  UseTls(/*client_ca=*/true, /*required=*/false);
  UseTokens();
  options_.auth.subjects = {{"", "bob", "", {"bob", config::v1::ROLE_INFERENCE}}};
  Start();
  EXPECT_EQ(Codes(TlsCaller(kAlice)), Pair(kOk, kPermissionDenied));
  EXPECT_EQ(Codes(TlsCaller("", client_ca_.Issue("bob"))), Pair(kOk, kPermissionDenied));
  EXPECT_EQ(Codes(TlsCaller()), Pair(kUnauthenticated, kUnauthenticated));
}

TEST_F(SecurityTest, ARotatedCertificateIsServedWithoutARestart) {
  UseTls();
  options_.grpc.inference_tls.reload_interval = absl::Seconds(1);
  options_.grpc.admin_tls.reload_interval = absl::Seconds(1);
  Start();
  ASSERT_EQ(Codes(TlsCaller()), Pair(kOk, kOk));
  const CertificateAuthority next_ca("next ca");
  const KeyPair next = next_ca.Issue("server");
  pem_.Write("key.pem", next.key_pem);
  pem_.Write("cert.pem", next.certificate_pem);
  ClientOptions caller = TlsCaller();
  caller.ca_pem = next_ca.certificate_pem();
  caller.timeout = absl::Seconds(2);
  Pair codes{kUnavailable, kUnavailable};
  for (int i = 0; i < 60 && codes != Pair(kOk, kOk); ++i) {
    codes = Codes(caller);
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_EQ(codes, Pair(kOk, kOk));
}

TEST_F(SecurityTest, AWrongFileIsAnErrorThatNamesFieldAndFile) {
  UseTls();
  const std::string other = pem_.Write("other.pem", server_ca_.Issue("other").key_pem);
  const std::string text = pem_.Write("text.pem", "not a certificate");
  struct Case {
    std::string server::TlsOptions::*field;
    std::string file;
    const char* name;
    const char* problem;
  };
  for (const Case& c :
       {Case{&server::TlsOptions::certificate_file, "/no/such.pem", "certificate_file",
             "cannot be opened"},
        Case{&server::TlsOptions::certificate_file, text, "certificate_file",
             "holds no PEM certificate"},
        Case{&server::TlsOptions::key_file, text, "key_file", "holds no PEM private key"},
        Case{&server::TlsOptions::key_file, other, "key_file", "is not the key of the certificate"},
        Case{&server::TlsOptions::client_ca_file, text, "client_ca_file",
             "holds no PEM certificate"},
        Case{&server::TlsOptions::client_ca_file, "/tmp", "client_ca_file", "cannot be read"}}) {
    server::TlsOptions tls = options_.grpc.admin_tls;
    tls.*c.field = c.file;
    const absl::Status status = server::CheckTlsFiles(tls);
    EXPECT_EQ(status.message(),
              absl::StrCat("listen.admin_tls.", c.name, ": ", c.file, ": ", c.problem));
    EXPECT_EQ(server::MakeServerCredentials(tls).status(), status);
  }
}

}  // namespace
}  // namespace reprise
