#pragma once
// The options with which fr-submit and frctl find their coordinator.

#include <cstdint>
#include <string>

namespace CLI {
class App;
}

namespace fr {

// --coordinator and --timeout.
void AddConnectionOptions(CLI::App& app, std::string& coordinator, double& timeout_seconds);

std::int64_t ToMillis(double seconds);

}  // namespace fr
