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

constexpr const char* kThisMachine = "localhost";

// `entries` have names, which must differ.
template <typename Entries>
void CheckNames(const std::string& list, const Entries& entries, YamlMessage* yaml) {
  std::set<std::string> names;
  for (int i = 0; i < entries.size(); ++i) {
    if (names.insert(entries[i].name()).second) continue;
    yaml->AddError(fmt::format("{}[{}].name", list, i),
                   fmt::format("'{}' is listed twice", entries[i].name()));
  }
}

// What each way to start workers needs of the nodes.
void CheckLauncher(const CoordinatorSpec& spec, YamlMessage* yaml) {
  const std::string launcher = LauncherKind_Type_Name(spec.launcher());
  switch (spec.launcher()) {
    case LauncherKind::local:
      for (int i = 0; i < spec.nodes_size(); ++i) {
        if (spec.nodes(i).name() == kThisMachine) continue;
        yaml->AddError(fmt::format("nodes[{}].name", i),
                       fmt::format("launcher local starts workers on {} only; say launcher: hosts "
                                   "to reach {} over ssh",
                                   kThisMachine, spec.nodes(i).name()));
      }
      return;
    case LauncherKind::hosts:
      if (spec.nodes().empty()) {
        yaml->AddError("launcher", "hosts needs nodes: [{name: HOST, slots: N}, ...]");
      }
      return;
    case LauncherKind::slurm:
    case LauncherKind::kubernetes:
      if (spec.nodes_size() != 1) {
        yaml->AddError("launcher",
                       fmt::format("{} needs one node, which stands for the whole cluster: nodes: "
                                   "[{{name: {}, slots: N}}]",
                                   launcher, launcher));
      }
      if (spec.launcher() == LauncherKind::kubernetes && spec.kubernetes().image().empty()) {
        yaml->AddError("launcher", "kubernetes needs kubernetes.image, the workers' image");
      }
      return;
  }
}

void CheckAdvertise(const CoordinatorSpec& spec, YamlMessage* yaml) {
  if (!spec.has_advertise()) return;
  const std::string& address = spec.advertise();
  const std::size_t colon = address.rfind(':');
  if (address.starts_with("tcp://") && colon > 6 && colon + 1 < address.size()) return;
  yaml->AddError("advertise", fmt::format("'{}' is no tcp://HOST:PORT", address));
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
  CheckNames("nodes", config.spec.nodes(), &yaml);
  CheckNames("users", config.spec.users(), &yaml);
  CheckLauncher(config.spec, &yaml);
  CheckAdvertise(config.spec, &yaml);
  config.diagnostics = yaml.diagnostics();
  if (config.spec.has_state_dir()) {
    config.spec.set_state_dir(
        (std::filesystem::absolute(path).parent_path() / config.spec.state_dir())
            .lexically_normal()
            .string());
  }
  if (config.spec.nodes_size() == 0) {
    NodeSpec* here = config.spec.add_nodes();
    here->set_name(kThisMachine);
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
