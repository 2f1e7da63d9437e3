#include "common/cli/run_command.h"

#include <cstdio>
#include <exception>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "common/base/version.h"

namespace fr {

int RunCommand(CLI::App& app, int argc, char** argv, const std::function<int()>& command,
               int (*exit_code)(ErrorCode)) {
  app.set_version_flag("--version", fmt::format("{} {}", app.get_name(), kVersion));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitDone : kExitInvalid;
  }
  try {
    return command();
  } catch (const Error& error) {
    fmt::print(stderr, "{}: {}\n", app.get_name(), error.what());
    return exit_code(error.code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: internal error: {}\n", app.get_name(), error.what());
    return exit_code(ErrorCode::kInternal);
  }
}

}  // namespace fr
