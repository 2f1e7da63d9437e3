#pragma once
// fr-submit --dry-run: what a job would do, as far as its file and its data directory tell.

#include <string>

#include "proto/job.pb.h"

namespace fr {

// Lines for people. Reads `property` and counts the lines of train.idx; what cannot be read is said
// to be unknown.
std::string DescribePlan(const JobSpec& spec);

}  // namespace fr
