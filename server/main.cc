// reprise-server: reads its configuration, serves until SIGTERM or SIGINT, drains.
#include <signal.h>
#include <unistd.h>

#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "server/build_server.h"
#include "server/config_loader.h"

namespace {

constexpr char kHelp[] =
    "reprise-server [--config FILE] [--set PATH=VALUE]... [--check_config] [--version] [--help]\n"
    "  --config FILE      YAML over the embedded defaults (config/default.yaml)\n"
    "  --set PATH=VALUE   one setting over the file, for example cache.store.path=/data\n"
    "  --check_config     check the configuration and exit\n"
    "Exit codes: 0 drained after SIGTERM or SIGINT, 1 could not start, 2 wrong command line,\n"
    "130 ended at once by a second signal.\n";

int Fail(int code, const std::string& message) {
  std::cerr << "reprise-server: " << message << std::endl;
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  std::string file;
  std::vector<std::string> settings;
  bool check_only = false;
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const bool takes_value = argument == "--config" || argument == "--set";
    if (takes_value && i + 1 == arguments.size()) return Fail(2, argument + " needs a value");
    if (argument == "--help") return std::cout << kHelp, 0;
    if (argument == "--version") return std::cout << REPRISE_VERSION << std::endl, 0;
    if (argument == "--check_config") check_only = true;
    if (argument == "--config") file = arguments[++i];
    if (argument == "--set") settings.push_back(arguments[++i]);
    if (!takes_value && argument != "--check_config")
      return Fail(2, "unknown flag " + argument + "; see --help");
  }
  const auto config = reprise::server::LoadConfig(file, settings);
  if (!config.ok()) return Fail(1, std::string(config.status().message()));
  if (check_only) return std::cout << "configuration is valid" << std::endl, 0;

  // Blocked in every thread, so that only the wait below takes them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  auto server = reprise::server::BuildServer(*config);
  if (!server.ok()) return Fail(1, std::string(server.status().message()));
  int signal = 0;
  sigwait(&signals, &signal);
  // A second signal ends the process at once.
  std::thread([signals] {
    int second = 0;
    sigwait(&signals, &second);
    _exit(130);
  }).detach();
  (*server)->Drain();
  return 0;
}
