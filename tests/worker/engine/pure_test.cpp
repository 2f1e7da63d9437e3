// Pure functions of the engine: schedules, positions, metrics. The same on every rank.

#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "worker/eval/verification_metrics.h"
#include "worker/optim/learning_rate.h"
#include "worker/train/sample_position.h"

namespace fr {
namespace {

struct RateCase {
  ScheduleType type;
  std::int64_t warmup;
  std::int64_t step;
  double share;  // of the highest rate
};

// Of 110 steps; type step falls at 40 and 60, to a fifth each.
TEST(LearningRate, FollowsItsFormulas) {
  using enum ScheduleType;
  for (const auto& [type, warmup, at, share] : std::vector<RateCase>{
           {polynomial, 0, 0, 1},
           {polynomial, 0, 55, 0.125},  // (1 - 1/2)^3
           {polynomial, 0, 110, 0},
           {polynomial, 0, 500, 0},  // a run that was made longer
           {polynomial, 10, 10, 1},
           {polynomial, 10, 60, 0.125},
           {step, 0, 39, 1},
           {step, 0, 40, 0.2},
           {step, 0, 60, 0.04},
           {step, 0, 109, 0.04},
           {step, 10, 40, 0.2},  // falls are at steps of the run, warm-up or not
           {cosine, 0, 0, 1},
           {cosine, 0, 55, 0.5},
           {cosine, 0, 110, 0},
           {cosine, 10, 60, 0.5},
           {cosine, 10, 10 + 25, (1 + std::sqrt(0.5)) / 2},
           {constant, 0, 0, 1},
           {constant, 0, 109, 1},
           {constant, 10, 10, 1},
           {constant, 10, 109, 1},
       }) {
    OptimizerSpec spec;
    spec.set_lr(0.1);
    ScheduleSpec* schedule = spec.mutable_schedule();
    schedule->set_type(type);
    schedule->set_warmup_steps(warmup);
    schedule->set_power(3);
    schedule->set_gamma(0.2);
    for (const std::int64_t fall : {40, 60}) schedule->add_steps(fall);
    EXPECT_NEAR(LearningRate(spec, at, 110), 0.1 * share, 1e-15)
        << ScheduleType_Name(type) << " " << warmup << " " << at;
  }
}

// Linearly, whatever comes after: no step has rate 0, the last of the warm-up has the full one.
TEST(LearningRate, WarmsUpWithEveryType) {
  for (const ScheduleType type : {ScheduleType::polynomial, ScheduleType::step,
                                  ScheduleType::cosine, ScheduleType::constant}) {
    OptimizerSpec spec;
    spec.set_lr(0.1);
    spec.mutable_schedule()->set_type(type);
    spec.mutable_schedule()->set_warmup_steps(10);
    for (int at = 0; at < 10; ++at) {
      EXPECT_DOUBLE_EQ(LearningRate(spec, at, 110), 0.01 * (at + 1)) << ScheduleType_Name(type);
    }
    EXPECT_DOUBLE_EQ(LearningRate(spec, 10, 110), 0.1) << ScheduleType_Name(type);
    // A run may end within its warm-up.
    EXPECT_DOUBLE_EQ(LearningRate(spec, 2, 5), 0.03) << ScheduleType_Name(type);
  }
}

// An epoch's last images are left out where they fill no batch; then the next epoch begins.
TEST(SamplePosition, EpochsAreWholeBatches) {
  EXPECT_EQ(BatchStart({0, 0}, 10, 4), (SamplePosition{0, 0}));
  EXPECT_EQ(BatchStart({0, 4}, 10, 4), (SamplePosition{0, 4}));
  EXPECT_EQ(BatchStart({0, 8}, 10, 4), (SamplePosition{1, 0}));
  EXPECT_EQ(RemainingSteps({0, 0}, 3, 10, 4), 6);
  EXPECT_EQ(RemainingSteps({0, 8}, 3, 10, 4), 4);
  EXPECT_EQ(RemainingSteps({2, 8}, 3, 10, 4), 0);
  EXPECT_EQ(RemainingSteps({1, 4}, 3, 10, 4), 3);
}

TEST(EvaluatePairs, PerfectAndUseless) {
  std::vector<double> distances;
  std::vector<std::uint8_t> same;
  for (int i = 0; i < 100; ++i) {
    same.push_back(i % 2 == 0);
    distances.push_back(same.back() ? 0.5 : 2.5);
  }
  const VerificationMetrics perfect = EvaluatePairs(distances, same);
  EXPECT_DOUBLE_EQ(perfect.accuracy, 1);
  EXPECT_NEAR(perfect.auc, 1, 1e-12);
  EXPECT_NEAR(perfect.eer, 0, 1e-12);
  EXPECT_DOUBLE_EQ(perfect.tar_at_far_1e3, 1);
  const VerificationMetrics useless = EvaluatePairs(std::vector<double>(100, 1.0), same);
  EXPECT_DOUBLE_EQ(useless.auc, 0.5);
  EXPECT_DOUBLE_EQ(useless.accuracy, 0.5);
}

TEST(EvaluatePairs, RefusesWhatHasNoAnswer) {
  EXPECT_THROW(EvaluatePairs({1, 2}, {1, 0}), Error);
  EXPECT_THROW(EvaluatePairs(std::vector<double>(20, 1), std::vector<std::uint8_t>(20, 1)), Error);
  std::vector<double> distances(20, 1);
  distances[3] = NAN;
  std::vector<std::uint8_t> same(20, 1);
  same[0] = 0;
  EXPECT_THROW(EvaluatePairs(distances, same), Error);
  EXPECT_THROW(EvaluatePairs(std::vector<double>(19, 1), same), Error);
}

}  // namespace
}  // namespace fr
