// What is sent and computed in a step, against sums by hand, and the time that follows.

#include <gtest/gtest.h>

#include "common/networks/costs.h"
#include "common/networks/network.h"
#include "common/plan/job_plan.h"
#include "common/plan/time_plan.h"

namespace fr {
namespace {

JobSpec Job(int workers) {
  JobSpec spec;
  spec.mutable_resources()->set_workers(workers);
  spec.mutable_data()->set_batch_size(128);
  spec.mutable_model()->set_network(Network::r50);
  return spec;
}

DataFacts Ms1m() { return {85'742, 5'822'653}; }

TEST(TrafficPlan, IsNothingForOneWorker) {
  const JobPlan plan = PlanJob(Job(1), Ms1m(), {});
  EXPECT_EQ(plan.traffic.total(), 0);
  EXPECT_EQ(plan.time.gradients, 0);
  EXPECT_EQ(plan.time.messages, 0);
}

TEST(TrafficPlan, CountsWhatARingSends) {
  const JobPlan plan = PlanJob(Job(4), Ms1m(), {});
  NetworkOptions r50;
  r50.network = Network::r50;
  const std::int64_t parameters = CostsOf(MakeNetwork(r50)).trained_parameters;
  EXPECT_EQ(plan.traffic.gradients, parameters * 4 * 2 * 3 / 4);
  // 512 embeddings of 512 floats, with a norm and a label; three quarters of them are sent on.
  EXPECT_EQ(plan.traffic.embeddings, 512 * (512 * 4 + 16) * 3 / 4);
  EXPECT_EQ(plan.traffic.embedding_gradients, 512 * 512 * 4 * 3 / 4);
  // Targets, maxima and sums in float64.
  EXPECT_EQ(plan.traffic.softmax, 512 * 3 * 8 * 2 * 3 / 4);
  EXPECT_EQ(plan.traffic.batch_norms, 0);
}

TEST(TrafficPlan, HalvesGradientsInBf16) {
  JobSpec spec = Job(4);
  const TrafficPlan wide = PlanJob(spec, Ms1m(), {}).traffic;
  spec.mutable_communication()->set_gradient_precision(Precision::bf16);
  EXPECT_EQ(PlanJob(spec, Ms1m(), {}).traffic.gradients * 2, wide.gradients);
}

TEST(TrafficPlan, GlobalBatchNormsAreSummedThreeTimes) {
  JobSpec spec = Job(2);
  spec.mutable_model()->set_batch_norm(BatchNormMode::global);
  EXPECT_GT(PlanJob(spec, Ms1m(), {}).traffic.batch_norms, 0);
}

TEST(WorkPlan, CountsThreeProductsOfTheBackboneAndFourOfTheHead) {
  JobSpec spec = Job(4);
  const JobPlan plan = PlanJob(spec, Ms1m(), {});
  NetworkOptions r50;
  r50.network = Network::r50;
  const auto one_image = static_cast<double>(CostsOf(MakeNetwork(r50)).multiply_adds);
  EXPECT_DOUBLE_EQ(plan.work.backbone, 3 * 128 * one_image);
  EXPECT_DOUBLE_EQ(plan.work.head, 4.0 * 512 * 21'436 * 512);
  spec.mutable_model()->set_recompute(true);
  EXPECT_DOUBLE_EQ(PlanJob(spec, Ms1m(), {}).work.backbone, 4 * 128 * one_image);
}

TEST(WorkPlan, SampledIdentitiesCostTheirShareAndTheBatchs) {
  JobSpec spec = Job(4);
  spec.mutable_loss()->set_sample_rate(0.1);
  const JobPlan plan = PlanJob(spec, Ms1m(), {});
  EXPECT_DOUBLE_EQ(plan.work.head, 4.0 * 512 * 512 * (0.1 * 21'436 + 128));
}

TEST(TimePlan, PartsAddUpToAStep) {
  for (const bool overlap : {false, true}) {
    JobSpec spec = Job(8);
    spec.mutable_communication()->set_overlap(overlap);
    const TimePlan time = PlanJob(spec, Ms1m(), {}).time;
    EXPECT_DOUBLE_EQ(time.step, time.forward + time.head + time.backward + time.update +
                                    time.gradients - time.hidden + time.messages + time.loader);
    EXPECT_EQ(time.hidden > 0, overlap);
    EXPECT_LE(time.hidden, time.backward);
    EXPECT_LT(time.hidden, time.gradients);
  }
}

TEST(TimePlan, ASlowNetworkHidesNoMoreThanTheBackwardPass) {
  MachineModel slow;
  slow.set_network_gb_per_s(0.001);
  const TimePlan time = PlanJob(Job(8), Ms1m(), slow).time;
  EXPECT_DOUBLE_EQ(time.hidden, time.backward);
}

TEST(TimePlan, FollowsTheMachine) {
  JobSpec spec = Job(1);
  spec.mutable_resources()->set_threads_per_worker(2);
  MachineModel machine;
  const TimePlan of_threads = PlanJob(spec, Ms1m(), machine).time;
  machine.set_rates_of(MachineModel::worker);
  const TimePlan of_worker = PlanJob(spec, Ms1m(), machine).time;
  EXPECT_NEAR(of_worker.backward, 2 * of_threads.backward, 1e-9 * of_worker.backward);
  machine.set_decoded_images_per_s(1);
  EXPECT_NEAR(PlanJob(spec, Ms1m(), machine).time.step, 128, 1e-9);  // waits for its images
}

// docs/backbones.md, docs/head.md: images a second of the backbone alone with two threads. The
// model has three numbers for all networks; a quarter is what it can do.
TEST(TimePlan, ComesNearTheMeasuredBackbones) {
  struct Measured {
    Network network;
    Precision precision;
    double images_per_second;
  };
  for (const Measured& measured :
       {Measured{Network::mbf, Precision::fp32, 61.5},
        Measured{Network::mbf, Precision::bf16, 139.5},
        Measured{Network::r18, Precision::fp32, 16.1},
        Measured{Network::r18, Precision::bf16, 53.4}, Measured{Network::r50, Precision::fp32, 7.9},
        Measured{Network::r50, Precision::bf16, 32.0}}) {
    JobSpec spec = Job(1);
    spec.mutable_resources()->set_threads_per_worker(2);
    spec.mutable_model()->set_network(measured.network);
    spec.mutable_model()->set_precision(measured.precision);
    const TimePlan time = PlanJob(spec, Ms1m(), {}).time;
    EXPECT_NEAR(128 / (time.forward + time.backward), measured.images_per_second,
                0.3 * measured.images_per_second)
        << Network_Name(measured.network) << " " << Precision_Name(measured.precision);
  }
}

// docs/head.md, exact: 1,000,000 identities, 512 values, two threads.
TEST(TimePlan, ComesNearTheMeasuredHead) {
  for (const auto& [batch, precision, seconds] :
       {std::tuple{64, Precision::fp32, 1.604}, std::tuple{256, Precision::fp32, 5.346},
        std::tuple{64, Precision::bf16, 1.064}, std::tuple{256, Precision::bf16, 2.977}}) {
    JobSpec spec = Job(1);
    spec.mutable_resources()->set_threads_per_worker(2);
    spec.mutable_data()->set_batch_size(batch);
    spec.mutable_loss()->set_precision(precision);
    EXPECT_NEAR(PlanJob(spec, {1'000'000, 5'000'000}, {}).time.head, seconds, 0.15 * seconds);
  }
}

TEST(JobPlan, CountsStepsAsTheTrainerDoes) {
  JobSpec spec = Job(4);
  const JobPlan plan = PlanJob(spec, Ms1m(), {});
  EXPECT_EQ(plan.steps_per_epoch, 5'822'653 / 512);
  EXPECT_EQ(plan.steps, 20 * (5'822'653 / 512));
  EXPECT_DOUBLE_EQ(*plan.job_seconds, 20 * *plan.epoch_seconds);
  spec.mutable_train()->set_max_steps(100);
  EXPECT_EQ(PlanJob(spec, Ms1m(), {}).steps, 100);
}

TEST(JobPlan, SaysNothingOfWhatIsUnknown) {
  const JobPlan plan = PlanJob(Job(4), {}, {});
  EXPECT_FALSE(plan.steps || plan.job_seconds || plan.epoch_seconds || plan.shards);
  EXPECT_GT(SumOf(plan.memory), 0);
}

// A total that does not divide: the first worker takes one image more.
TEST(JobPlan, PlansForTheWorkerThatHasMost) {
  JobSpec spec = Job(3);
  spec.mutable_data()->clear_batch_size();
  spec.mutable_data()->set_total_batch_size(100);
  const JobPlan plan = PlanJob(spec, Ms1m(), {});
  EXPECT_EQ(plan.share.images, 34);
  EXPECT_EQ(plan.share.identities, 28'581);  // ceil(85,742 / 3)
}

}  // namespace
}  // namespace fr
