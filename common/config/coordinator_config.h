#pragma once
// coordinator.yaml -> CoordinatorSpec.

#include <filesystem>
#include <string>
#include <vector>

#include "common/config/yaml_message.h"
#include "proto/coordinator.pb.h"

namespace fr {

struct CoordinatorConfig {
  CoordinatorSpec spec;  // complete only if `diagnostics` is empty; state_dir is absolute
  std::vector<Diagnostic> diagnostics;
};

// Reads and checks `path`; a relative state_dir is taken from the file's directory. Without
// nodes, launcher local gets one: localhost with as many slots as this machine has cores. Throws
// Error(kNotFound | kIo) if the file cannot be read.
CoordinatorConfig LoadCoordinatorConfig(const std::filesystem::path& path,
                                        const std::vector<std::string>& overrides);

// Where the user's commands find the coordinator: `flag` if not empty, then FR_COORDINATOR, then
// `coordinator:` in ~/.config/fr/config.yaml, then tcp://127.0.0.1:7070.
std::string CoordinatorAddress(const std::string& flag);

}  // namespace fr
