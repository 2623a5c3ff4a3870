// reprise cache verify: a store is checked by the program that knows its format, which lies
// beside this one.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "client/commands.h"

namespace reprise::client {
namespace {

struct VerifyOptions {
  std::string folder = "reprise-data";
  bool repair = false;
};

// Where reprise-server is: beside this program, or else on the path.
std::string ServerProgram() {
  std::string self(4096, '\0');
  const ssize_t size = readlink("/proc/self/exe", self.data(), self.size());
  self.resize(size > 0 ? static_cast<size_t>(size) : 0);
  const std::string beside = self.substr(0, self.rfind('/') + 1) + "reprise-server";
  return access(beside.c_str(), X_OK) == 0 ? beside : "reprise-server";
}

// Returns only when the program cannot be run.
int RunServer(const VerifyOptions& options) {
  std::vector<std::string> words = {ServerProgram(), "--set", "cache.store.path=" + options.folder,
                                    options.repair ? "--repair_store" : "--verify_store"};
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  std::cerr << "reprise: cannot run " << words[0] << ": " << std::strerror(errno) << std::endl;
  return kExitFailed;
}

CLI::App* CacheGroup(CLI::App& app) {
  const auto found =
      app.get_subcommands([](const CLI::App* command) { return command->get_name() == "cache"; });
  if (!found.empty()) return found[0];
  CLI::App* cache = app.add_subcommand("cache", "See and manage the cache");
  cache->require_subcommand(1);
  return cache;
}

}  // namespace

void AddVerifyCommand(CLI::App& app, Command& chosen) {
  const auto options = std::make_shared<VerifyOptions>();
  CLI::App* command = CacheGroup(app)->add_subcommand(
      "verify", "Read a store that no server holds, and say what is damaged");
  command->add_option("folder", options->folder, "cache.store.path of its server")
      ->capture_default_str();
  command->add_flag("--repair", options->repair, "remove what is damaged");
  command->callback([options, &chosen] { chosen = [options] { return RunServer(*options); }; });
}

}  // namespace reprise::client
