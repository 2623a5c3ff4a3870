// `reprise bench`: the load test.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "client/commands.h"

namespace reprise::client::load {

// What is done with the folder of a run's files, when there is one.
using AfterRun = std::function<absl::Status(const std::string& folder)>;

// Returns the subcommand, which may get subcommands of its own: then no load is sent.
CLI::App* AddBenchCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen,
                          AfterRun after_run = nullptr);

}  // namespace reprise::client::load
