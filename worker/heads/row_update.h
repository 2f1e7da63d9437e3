#pragma once
// What a step's optimizer does to the rows of the head, in the kernels' terms.

#include "worker/heads/head_shard.h"

namespace fr {

// Of step `step` (from 0). `trust_ratio` is kLars' alone (TrustRatio in worker/optim/lars.h).
RowUpdate MakeRowUpdate(const HeadShardOptions& options, double lr, double step,
                        double trust_ratio = 1);

}  // namespace fr
