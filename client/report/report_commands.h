// `reprise bench` with its reports: `--html`, `bench report` and `bench compare`. The last two
// need no server.
#pragma once

#include "client/commands.h"

namespace reprise::client {

void AddLoadTestCommands(CLI::App& app, const GlobalOptions& globals, Command& chosen);

}  // namespace reprise::client
