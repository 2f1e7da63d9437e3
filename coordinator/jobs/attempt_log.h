#pragma once
// Where an attempt's files lie, and what its workers printed.

#include <filesystem>

#include "proto/record.pb.h"
#include "proto/rpc.pb.h"

namespace fr {

std::filesystem::path AttemptDirectory(const JobRecord& job, int attempt);

// A piece of the log of `request.attempt` (absent: the latest). A job that has not started yet has
// an empty one. Throws Error(kNotFound) for an attempt that there was not.
GetLogsReply ReadAttemptLog(const JobRecord& job, const GetLogsRequest& request);

}  // namespace fr
