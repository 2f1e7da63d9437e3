#include "coordinator/cli/connection_options.h"

#include <cmath>

#include <CLI/CLI.hpp>

namespace fr {

void AddConnectionOptions(CLI::App& app, std::string& coordinator, double& timeout_seconds) {
  app.add_option("--coordinator", coordinator,
                 "Address of the coordinator; without it FR_COORDINATOR, then \"coordinator:\" in "
                 "~/.config/fr/config.yaml, then tcp://127.0.0.1:7070")
      ->type_name("ADDR");
  app.add_option("--timeout", timeout_seconds, "Seconds to wait for the coordinator's answer")
      ->check(CLI::Range(0.05, 86400.0))
      ->capture_default_str();
}

std::int64_t ToMillis(double seconds) { return std::llround(seconds * 1000); }

}  // namespace fr
