// reprise-server: reads its configuration, serves until SIGTERM or SIGINT, drains.
#include <signal.h>
#include <unistd.h>

#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "server/build_scrub.h"
#include "server/build_server.h"
#include "server/config_loader.h"

namespace {

constexpr char kHelp[] =
    "reprise-server [--config FILE] [--set PATH=VALUE]... [--check_config] [--verify_store]\n"
    "               [--repair_store] [--version] [--help]\n"
    "  --config FILE      YAML over the embedded defaults (config/default.yaml)\n"
    "  --set PATH=VALUE   one setting over the file, for example cache.store.path=/data\n"
    "  --check_config     check the configuration and exit\n"
    "  --verify_store     read all of cache.store.path, which no server may hold; print what it\n"
    "                     holds and what is damaged, and exit\n"
    "  --repair_store     the same, and remove what is damaged\n"
    "Exit codes: 0 drained after SIGTERM or SIGINT, 1 could not start, 2 wrong command line,\n"
    "4 the store that was verified is damaged, 130 ended at once by a second signal.\n";

int Fail(int code, const std::string& message) {
  std::cerr << "reprise-server: " << message << std::endl;
  return code;
}

int Verify(const reprise::config::v1::ServerConfig& config, bool repair) {
  const auto sound = reprise::server::VerifyStore(config, repair, std::cout);
  if (!sound.ok()) return Fail(1, std::string(sound.status().message()));
  return *sound ? 0 : 4;
}

// What the command line asks for. `done`: the program has ended with `code`.
struct CommandLine {
  std::string file;
  std::vector<std::string> settings;
  bool check_only = false, verify = false, repair = false;
  bool done = false;
  int code = 0;

  void End(int with) {
    done = true;
    code = with;
  }
};

CommandLine Parse(const std::vector<std::string>& arguments) {
  CommandLine line;
  for (size_t i = 0; i < arguments.size() && !line.done; ++i) {
    const std::string& argument = arguments[i];
    const bool takes_value = argument == "--config" || argument == "--set";
    if (takes_value && i + 1 == arguments.size()) {
      line.End(Fail(2, argument + " needs a value"));
    } else if (argument == "--help") {
      std::cout << kHelp;
      line.End(0);
    } else if (argument == "--version") {
      std::cout << REPRISE_VERSION << std::endl;
      line.End(0);
    } else if (argument == "--check_config") {
      line.check_only = true;
    } else if (argument == "--verify_store") {
      line.verify = true;
    } else if (argument == "--repair_store") {
      line.verify = line.repair = true;
    } else if (argument == "--config") {
      line.file = arguments[++i];
    } else if (argument == "--set") {
      line.settings.push_back(arguments[++i]);
    } else {
      line.End(Fail(2, "unknown flag " + argument + "; see --help"));
    }
  }
  return line;
}

// Until a signal.
int Serve(const reprise::config::v1::ServerConfig& config) {
  // Blocked in every thread, so that only the wait below takes them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  auto server = reprise::server::BuildServer(config);
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

}  // namespace

int main(int argc, char** argv) {
  const CommandLine line = Parse(std::vector<std::string>(argv + 1, argv + argc));
  if (line.done) return line.code;
  const auto config = reprise::server::LoadConfig(line.file, line.settings);
  if (!config.ok()) return Fail(1, std::string(config.status().message()));
  if (line.check_only) return std::cout << "configuration is valid" << std::endl, 0;
  return line.verify ? Verify(*config, line.repair) : Serve(*config);
}
