#include "common/config/coordinator_config.h"

#include <cstdlib>
#include <set>
#include <thread>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {
namespace {

constexpr const char* kDefaultAddress = "tcp://127.0.0.1:7070";

void CheckNodes(const CoordinatorSpec& spec, YamlMessage* yaml) {
  std::set<std::string> names;
  for (int i = 0; i < spec.nodes_size(); ++i) {
    if (!names.insert(spec.nodes(i).name()).second) {
      yaml->AddError(fmt::format("nodes[{}].name", i),
                     fmt::format("'{}' is listed twice", spec.nodes(i).name()));
    }
  }
}

// `coordinator:` of the user's own file, or empty.
std::string AddressFromUserConfig() {
  const char* home = std::getenv("HOME");
  if (home == nullptr) return "";
  const std::filesystem::path path = std::filesystem::path(home) / ".config/fr/config.yaml";
  std::error_code missing;
  if (!std::filesystem::exists(path, missing)) return "";
  try {
    const YAML::Node node = YAML::Load(ReadFile(path));
    return node.IsMap() && node["coordinator"] ? node["coordinator"].as<std::string>() : "";
  } catch (const YAML::Exception& error) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: 'coordinator: tcp://HOST:PORT' is expected ({})", path.string(),
                            error.what()));
  }
}

}  // namespace

CoordinatorConfig LoadCoordinatorConfig(const std::filesystem::path& path,
                                        const std::vector<std::string>& overrides) {
  CoordinatorConfig config;
  YamlMessage yaml(ReadFile(path), path.string(), overrides, &config.spec);
  CheckNodes(config.spec, &yaml);
  config.diagnostics = yaml.diagnostics();
  if (config.spec.has_state_dir()) {
    config.spec.set_state_dir(
        (std::filesystem::absolute(path).parent_path() / config.spec.state_dir())
            .lexically_normal()
            .string());
  }
  if (config.spec.nodes_size() == 0) {
    NodeSpec* here = config.spec.add_nodes();
    here->set_name("localhost");
    here->set_slots(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  }
  return config;
}

std::string CoordinatorAddress(const std::string& flag) {
  if (!flag.empty()) return flag;
  const char* environment = std::getenv("FR_COORDINATOR");
  if (environment != nullptr && *environment != '\0') return environment;
  const std::string configured = AddressFromUserConfig();
  return configured.empty() ? kDefaultAddress : configured;
}

}  // namespace fr
