#pragma once
// Bringing a database of an earlier layout up to the present one.

#include <filesystem>

#include "common/store/store_open.h"

namespace fr {

// Format 1 had no index of jobs, kept a job's file within its record, and knew neither how many
// transitions a job has nor whose it is. All of it changes in one synced batch, the format's number
// included: a process that is killed on the way leaves format 1. Throws Error(kDataLoss) for rows
// that are damaged, Error(kIo | kResourceExhausted).
void MigrateFromFormat1(const OpenedDatabase& opened, const std::filesystem::path& directory);

}  // namespace fr
