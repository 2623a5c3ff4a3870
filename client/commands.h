// The commands of the `reprise` program. Each adds itself to the command line
// and returns what to run when it was chosen.
//
// Exit codes: 0 done; 1 the call failed; 2 the command line is wrong; 3 the
// server cannot be reached; 4 the demo or the paper's experiment ran and a check of it
// failed, the store that was verified is damaged, or a load test missed an SLO.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "absl/status/status.h"
#include "client/client.h"

namespace reprise::client {

inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnavailable = 3;
inline constexpr int kExitCheckFailed = 4;

// Options of every command, filled in when the command line has been parsed.
struct GlobalOptions {
  ClientOptions client;
  double timeout_seconds = 300;
  bool json = false;
  std::string version;       // of this program
  std::string command_line;  // as it was typed

  Client Connect() const;
};

// TLS and credentials of all commands. Secrets come from files, never from the command line.
void AddSecurityOptions(CLI::App& app, GlobalOptions& globals);

// An option that names a file with a bearer token, which goes to `token`.
CLI::Option* AddTokenFile(CLI::App& app, const std::string& name, std::string& token,
                          const std::string& help);

// kInvalidArgument naming `option` and address: a token would travel without TLS, where whoever is
// on the way could read it.
absl::Status CheckTokenPath(const ClientOptions& client, const std::string& option);

// A command returns its exit code.
using Command = std::function<int()>;

void AddGenerateCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen);
void AddChatCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen);
void AddExplainCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen);
void AddStatsCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen);
void AddCacheCommands(CLI::App& app, const GlobalOptions& globals, Command& chosen);
// A program of its own, reprise-server, that needs no server to run.
void AddVerifyCommand(CLI::App& app, Command& chosen);
void AddDemoCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen);
void AddPaperCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen);

// Prints the status to standard error; the exit code that fits it.
int ReportFailure(const absl::Status& status);

}  // namespace reprise::client
