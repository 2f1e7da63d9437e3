#pragma once
// What the main functions of the commands share: options, errors, exit codes.

#include <cstdint>
#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace fr {

// docs/commands.md, "Exit codes".
inline constexpr int kExitDone = 0;
inline constexpr int kExitInvalid = 2;

// --coordinator and --timeout; --version.
void AddConnectionOptions(CLI::App& app, std::string& coordinator, double& timeout_seconds);

std::int64_t ToMillis(double seconds);

// Parses the command line, runs `command` and returns the process's exit code. An Error becomes one
// message on standard error, never a stack trace.
int RunCommand(CLI::App& app, int argc, char** argv, const std::function<int()>& command);

}  // namespace fr
