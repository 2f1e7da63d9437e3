#pragma once
// The head that a job asks for.

#include "proto/job.pb.h"
#include "worker/heads/margin_head.h"

namespace fr {

// From a spec whose defaults are read and that was found valid.
MarginHeadOptions HeadOptions(const JobSpec& spec);

}  // namespace fr
