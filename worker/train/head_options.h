#pragma once
// The head that a job asks for.

#include <memory>

#include "proto/job.pb.h"
#include "worker/heads/margin_head.h"
#include "worker/heads/triplet_head.h"

namespace fr {

// From specs whose defaults are read and that were found valid.

// REQUIRES: loss.type is not triplet.
MarginHeadOptions HeadOptions(const JobSpec& spec);
// REQUIRES: loss.type is triplet.
TripletHeadOptions TripletOptions(const JobSpec& spec);

// `range`: of the identities, whose rows this rank has; a loss without rows takes no notice.
// `comm` must outlive the head.
std::unique_ptr<Head> MakeHead(const JobSpec& spec, IdentityRange range, Communicator& comm);

}  // namespace fr
