#pragma once
// The subcommands of bench_scheduler, one file each.

#include <functional>

namespace CLI {
class App;
}

namespace fr {

// Each adds its subcommand to `app`; parsing that sets `*command` to what is to be run, which
// returns the exit code.
void AddRoundCommand(CLI::App* app, std::function<int()>* command);
void AddMonthCommand(CLI::App* app, std::function<int()>* command);
void AddSubmissionsCommand(CLI::App* app, std::function<int()>* command);
void AddRestartCommand(CLI::App* app, std::function<int()>* command);

}  // namespace fr
