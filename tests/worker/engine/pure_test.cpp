// Pure functions of the engine: schedules, positions, metrics. The same on every rank.

#include <cmath>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "worker/eval/verification_metrics.h"
#include "worker/optim/learning_rate.h"
#include "worker/train/sample_position.h"

namespace fr {
namespace {

OptimizerSpec Schedule(ScheduleType type, std::int64_t warmup = 0) {
  OptimizerSpec spec;
  spec.set_lr(0.1);
  spec.mutable_schedule()->set_type(type);
  spec.mutable_schedule()->set_warmup_steps(warmup);
  return spec;
}

TEST(LearningRate, FollowsItsFormulas) {
  EXPECT_DOUBLE_EQ(LearningRate(Schedule(ScheduleType::polynomial), 0, 100), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(Schedule(ScheduleType::polynomial), 50, 100), 0.1 * 0.25);
  EXPECT_DOUBLE_EQ(LearningRate(Schedule(ScheduleType::cosine), 50, 100), 0.05);
  OptimizerSpec step = Schedule(ScheduleType::step);
  for (const std::int64_t fall : {10, 20}) step.mutable_schedule()->add_steps(fall);
  EXPECT_DOUBLE_EQ(LearningRate(step, 9, 100), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(step, 10, 100), 0.01);
  EXPECT_DOUBLE_EQ(LearningRate(step, 99, 100), 0.001);
}

TEST(LearningRate, WarmsUpLinearly) {
  const OptimizerSpec spec = Schedule(ScheduleType::polynomial, 10);
  EXPECT_DOUBLE_EQ(LearningRate(spec, 0, 110), 0.01);
  EXPECT_DOUBLE_EQ(LearningRate(spec, 9, 110), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(spec, 10, 110), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(spec, 60, 110), 0.1 * 0.25);
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
