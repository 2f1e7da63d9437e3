#pragma once
// The learning rate of a step, as a pure function.

#include <cstdint>

#include "proto/job.pb.h"

namespace fr {

// Rate of step `step` (from 0) of `total_steps`. Over the first warmup_steps w it rises linearly,
// lr (step + 1) / w; afterwards, with t = (step - w) / (total_steps - w):
//   polynomial  lr (1 - t)^power
//   step        lr gamma^(number of schedule.steps <= step)
//   cosine      lr (1 + cos(pi t)) / 2
//   constant    lr
double LearningRate(const OptimizerSpec& spec, std::int64_t step, std::int64_t total_steps);

}  // namespace fr
