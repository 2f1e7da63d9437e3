#pragma once
// Which options of `model` a network has. Both who checks a job file and who builds the network ask
// here.

#include "proto/job.pb.h"

namespace fr {

bool HasSqueezeExcite(Network network);

// Whether `output` can be chosen; where not, there is no dropout either.
bool HasOutputs(Network network);

// Where none is chosen. REQUIRES: HasOutputs.
ModelSpec::Output DefaultOutput(Network network);

}  // namespace fr
