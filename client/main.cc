// reprise: the command-line client.
#include <vector>

#include "absl/strings/str_join.h"
#include "client/commands.h"
#include "client/report/report_commands.h"

int main(int argc, char** argv) {
  namespace client = reprise::client;
  CLI::App app("reprise talks to a reprise-server");
  client::GlobalOptions globals;
  globals.version = REPRISE_VERSION;
  globals.command_line = absl::StrJoin(std::vector<std::string>(argv, argv + argc), " ");
  app.add_option("--address", globals.client.address, "inference address, host:port")
      ->capture_default_str();
  app.add_option("--admin-address", globals.client.admin_address, "admin address, host:port")
      ->capture_default_str();
  client::AddSecurityOptions(app, globals);
  app.add_option("--timeout", globals.timeout_seconds, "seconds one call may take")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
  app.add_flag("--json", globals.json, "print JSON, one object a reply");
  app.set_version_flag("--version", REPRISE_VERSION);
  app.footer(
      "Exit codes: 0 done, 1 the call failed, 2 wrong command line, 3 server unreachable,\n"
      "4 the demo or paper ran and one of its checks failed, the verified store is damaged, or\n"
      "a load test missed an SLO.");
  app.require_subcommand(1);
  app.fallthrough();

  client::Command chosen;
  client::AddGenerateCommand(app, globals, chosen);
  client::AddChatCommand(app, globals, chosen);
  client::AddExplainCommand(app, globals, chosen);
  client::AddStatsCommand(app, globals, chosen);
  client::AddCacheCommands(app, globals, chosen);
  client::AddDemoCommand(app, globals, chosen);
  client::AddLoadTestCommands(app, globals, chosen);
  client::AddPaperCommand(app, globals, chosen);
  client::AddVerifyCommand(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : client::kExitUsage;
  }
  return chosen();
}
