#pragma once
// What the main functions of the commands share: errors and exit codes.

#include <functional>

#include "common/base/error.h"

namespace CLI {
class App;
}

namespace fr {

// docs/commands.md, "Exit codes".
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitInvalid = 2;
inline constexpr int kExitRefused = 3;  // the coordinator cannot be reached, or refuses

// Adds --version, parses the command line, runs `command` and returns the process's exit code. An
// Error becomes one message on standard error, never a stack trace; `exit_code` tells its code.
int RunCommand(CLI::App& app, int argc, char** argv, const std::function<int()>& command,
               int (*exit_code)(ErrorCode) = ExitCodeFor);

}  // namespace fr
