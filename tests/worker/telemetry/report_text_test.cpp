#include "worker/telemetry/report_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/telemetry/metric_points.h"

namespace fr {
namespace {

TEST(ReportLines, SayWhatPeopleLookFor) {
  Progress progress;
  progress.set_step(120);
  progress.set_total_steps(5000);
  progress.set_loss(4.313);
  progress.set_images_per_second(38.24);
  progress.set_seconds_left(3722.6);
  ValidationResult result;
  result.set_set("lfw");
  result.set_step(120);
  result.set_accuracy(0.9943);
  result.set_accuracy_std(0.0031);
  result.set_auc(0.9991);
  result.set_tar_at_far_1e3(0.98);
  std::vector<MetricPoint> points = ValidationPoints(result);
  points.push_back(MakePoint("train/lr", 120, 0.05));
  EXPECT_THAT(
      ReportLines(points, progress),
      testing::ElementsAre(
          "step 120/5000  lfw: accuracy 99.43 % (+- 0.31), AUC 0.9991, TAR@FAR=1e-3 98.00 %",
          "step 120/5000  loss 4.313000  lr 0.05000  38.2 images/s  1:02:03 left"));
}

TEST(ReportLines, AValidationAloneHasNoLineOfTraining) {
  EXPECT_TRUE(ReportLines({MakePoint("train/lr", 1, 0.1)}, Progress()).empty());
}

}  // namespace
}  // namespace fr
