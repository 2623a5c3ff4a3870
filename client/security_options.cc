#include <arpa/inet.h>

#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/commands.h"

namespace reprise::client {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (!file || text.empty()) throw CLI::ValidationError(path, "cannot be read, or is empty");
  return text;
}

// An option that names a file whose text goes to `text`.
CLI::Option* AddFile(CLI::App& app, const std::string& name, std::string& text,
                     const std::string& help) {
  return app
      .add_option_function<std::string>(
          name, [&text](const std::string& path) { text = ReadAll(path); }, help)
      ->type_name("FILE");
}

// Literal addresses only: a name may begin like one.
bool StaysOnThisMachine(const std::string& address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const std::string host = address.substr(0, address.rfind(':'));
  in_addr ip;
  return host == "localhost" || host == "[::1]" ||
         (inet_pton(AF_INET, host.c_str(), &ip) == 1 && ntohl(ip.s_addr) >> 24 == 127);
}

}  // namespace

absl::Status CheckTokenPath(const ClientOptions& client, const std::string& option) {
  if (client.token.empty() || !client.ca_pem.empty()) return absl::OkStatus();
  for (const std::string& address : {client.address, client.admin_address}) {
    if (StaysOnThisMachine(address)) continue;
    return absl::InvalidArgumentError(absl::StrCat(option, ": would send the token to ", address,
                                                   " without TLS: give --tls-ca as well"));
  }
  return absl::OkStatus();
}

CLI::Option* AddTokenFile(CLI::App& app, const std::string& name, std::string& token,
                          const std::string& help) {
  return app
      .add_option_function<std::string>(
          name,
          [&token](const std::string& path) {
            token = ReadAll(path);
            absl::StripAsciiWhitespace(&token);
          },
          help)
      ->type_name("FILE");
}

void AddSecurityOptions(CLI::App& app, GlobalOptions& globals) {
  ClientOptions& client = globals.client;
  CLI::Option* ca = AddFile(app, "--tls-ca", client.ca_pem,
                            "PEM of the CA that signs the server's certificate; turns TLS on")
                        ->envname("REPRISE_TLS_CA");
  CLI::Option* certificate =
      AddFile(app, "--tls-cert", client.certificate_pem, "PEM of the client's certificate")
          ->envname("REPRISE_TLS_CERT");
  CLI::Option* key = AddFile(app, "--tls-key", client.key_pem, "PEM of the client's private key")
                         ->envname("REPRISE_TLS_KEY");
  certificate->needs(ca)->needs(key);
  key->needs(certificate);
  app.add_option("--tls-server-name", client.server_name,
                 "name that the server's certificate must have, instead of the address")
      ->needs(ca);
  AddTokenFile(app, "--token-file", client.token, "file that holds the bearer token")
      ->envname("REPRISE_TOKEN_FILE");
  app.final_callback([&client] {
    const absl::Status status = CheckTokenPath(client, "--token-file");
    if (!status.ok()) throw CLI::ValidationError(std::string(status.message()));
  });
}

}  // namespace reprise::client
