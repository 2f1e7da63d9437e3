#include "coordinator/cli/watch.h"

#include <gtest/gtest.h>

namespace fr {
namespace {

JobRecord RunningJob() {
  JobRecord job;
  job.set_id("job-12");
  job.set_state(RUNNING);
  job.mutable_progress()->set_step(1240);
  job.mutable_progress()->set_total_steps(5000);
  job.mutable_progress()->set_loss(4.3127);
  job.mutable_progress()->set_images_per_second(1834);
  job.mutable_progress()->set_seconds_left(5321);
  return job;
}

std::vector<ValidationResult> Lfw(double accuracy) {
  ValidationResult result;
  result.set_set("lfw");
  result.set_accuracy(accuracy);
  return {result};
}

TEST(ProgressText, ShowsHowFarAndHowFast) {
  EXPECT_EQ(ProgressText(RunningJob(), Lfw(0.9943)),
            "job-12 running  1,240/5,000 (24.8 %)  loss 4.313  1,834 images/s  1 h 28 min left  "
            "lfw 99.43 %");
}

// A job that has just begun knows nothing of itself.
TEST(ProgressText, LeavesOutWhatIsNotKnown) {
  JobRecord job = RunningJob();
  job.clear_progress();
  EXPECT_EQ(ProgressText(job, {}), "job-12 running");
  job.mutable_progress()->set_step(0);
  EXPECT_EQ(ProgressText(job, {}), "job-12 running");
}

TEST(ProgressText, SaysWhatAJobWaitsFor) {
  JobRecord job = RunningJob();
  job.set_state(RESTARTING);
  job.set_reason("rank 1 ended\nby signal 9");
  EXPECT_EQ(ProgressText(job, {}), "job-12 restarting: rank 1 ended by signal 9");
}

TEST(EndText, NamesTheReasonAndTheTimeItTook) {
  JobRecord job = RunningJob();
  job.set_state(FAILED);
  job.set_reason("train.rec is truncated");
  job.set_started_ms(1000);
  job.set_ended_ms(62'000);
  EXPECT_EQ(EndText(job, Lfw(0.5)), "job-12 failed after 1 min 1 s: train.rec is truncated");
  job.set_state(COMPLETED);
  job.set_reason("trained 5,000 steps");
  EXPECT_EQ(EndText(job, Lfw(0.9943)),
            "job-12 completed after 1 min 1 s: trained 5,000 steps  lfw 99.43 %");
  // Cancelled in the queue: it never ran.
  job.clear_started_ms();
  job.set_state(CANCELLED);
  job.set_reason("asked for by ada");
  EXPECT_EQ(EndText(job, {}), "job-12 cancelled: asked for by ada");
}

}  // namespace
}  // namespace fr
