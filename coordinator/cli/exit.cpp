#include "coordinator/cli/exit.h"

#include <cmath>
#include <cstdio>
#include <exception>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "common/base/error.h"
#include "coordinator/version.h"

namespace fr {

void AddConnectionOptions(CLI::App& app, std::string& coordinator, double& timeout_seconds) {
  app.add_option("--coordinator", coordinator,
                 "Address of the coordinator; without it FR_COORDINATOR, then \"coordinator:\" in "
                 "~/.config/fr/config.yaml, then tcp://127.0.0.1:7070")
      ->type_name("ADDR");
  app.add_option("--timeout", timeout_seconds, "Seconds to wait for the coordinator's answer")
      ->check(CLI::Range(0.05, 86400.0))
      ->capture_default_str();
  app.set_version_flag("--version", fmt::format("{} {}", app.get_name(), kVersion));
}

std::int64_t ToMillis(double seconds) { return std::llround(seconds * 1000); }

int RunCommand(CLI::App& app, int argc, char** argv, const std::function<int()>& command) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitDone : kExitInvalid;
  }
  try {
    return command();
  } catch (const Error& error) {
    fmt::print(stderr, "{}: {}\n", app.get_name(), error.what());
    return ExitCodeFor(error.code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: internal error: {}\n", app.get_name(), error.what());
    return ExitCodeFor(ErrorCode::kInternal);
  }
}

}  // namespace fr
