#include "worker/optim/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace fr {

double LearningRate(const OptimizerSpec& spec, std::int64_t step, std::int64_t total_steps) {
  const ScheduleSpec& schedule = spec.schedule();
  const std::int64_t warmup = schedule.warmup_steps();
  if (step < warmup) {
    return spec.lr() * static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  const double progress =
      std::min(1.0, static_cast<double>(step - warmup) /
                        static_cast<double>(std::max<std::int64_t>(total_steps - warmup, 1)));
  switch (schedule.type()) {
    case ScheduleType::polynomial:
      return spec.lr() * std::pow(1 - progress, schedule.power());
    case ScheduleType::step: {
      const auto falls = std::count_if(schedule.steps().begin(), schedule.steps().end(),
                                       [step](std::int64_t fall) { return fall <= step; });
      return spec.lr() * std::pow(schedule.gamma(), static_cast<double>(falls));
    }
    case ScheduleType::cosine:
      return spec.lr() * (1 + std::cos(std::numbers::pi * progress)) / 2;
    case ScheduleType::constant:
      break;
  }
  return spec.lr();
}

}  // namespace fr
