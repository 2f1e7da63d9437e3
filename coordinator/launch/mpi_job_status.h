#pragma once
// How an attempt stands, from its MPIJob and its pods as the API server shows them. Pure, and
// content with whatever stands in them.

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "coordinator/launch/launcher.h"

namespace fr {

// A string of `object` at `path` ({"metadata", "name"}); empty where there is none.
std::string TextAt(const nlohmann::json& object, const std::vector<std::string>& path);

// The attempt whose MPIJob is `name`: `mpi_job` is null where there is none, `pods` are those that
// carry its label. `now_ms`: Unix time. It has ended when the MPIJob is gone or finished and none
// of its pods may have processes. A pod that should have been gone for a minute is on a node that
// does not answer: it is not waited for, as the coordinator turns its workers away.
AttemptStatus MpiJobStatus(const std::string& name, const nlohmann::json& mpi_job,
                           const std::vector<nlohmann::json>& pods, std::int64_t now_ms);

}  // namespace fr
