#include "coordinator/jobs/demand.h"

#include <gtest/gtest.h>

#include "common/plan/job_plan.h"

namespace fr {
namespace {

JobSpec Spec(int min_workers, int workers) {
  JobSpec spec;
  spec.mutable_data()->set_train("/data");
  spec.mutable_model()->set_network(Network::r18);
  spec.mutable_resources()->set_workers(workers);
  spec.mutable_resources()->set_min_workers(min_workers);
  return spec;
}

DataFacts Facts() {
  DataFacts facts;
  facts.identities = 1'000'000;
  facts.images = 10'000'000;
  return facts;
}

// The same numbers as frctl plan's, for every size of the world.
TEST(PredictDemand, IsThePlanOfEveryWorldSize) {
  const JobSpec spec = Spec(2, 5);
  const Demand demand = PredictDemand(spec, Facts());
  ASSERT_EQ(demand.worker_bytes_size(), 4);
  for (int workers = 2; workers <= 5; ++workers) {
    const JobPlan plan = PlanJob(Spec(workers, workers), Facts(), MachineModel());
    EXPECT_EQ(WorkerBytes(spec, demand, workers), SumOf(plan.memory)) << workers;
  }
  EXPECT_EQ(demand.job_seconds(),
            static_cast<std::int64_t>(*PlanJob(spec, Facts(), MachineModel()).job_seconds));
  EXPECT_EQ(WorkerBytes(spec, demand, 1), 0);
  EXPECT_EQ(WorkerBytes(spec, demand, 6), 0);
}

// Of very elastic jobs not every size is planned; what stands between is never too little.
TEST(PredictDemand, IsNeverLessThanThePlan) {
  const JobSpec spec = Spec(1, 200);
  const Demand demand = PredictDemand(spec, Facts());
  ASSERT_EQ(demand.worker_bytes_size(), 200);
  for (const int workers : {1, 2, 3, 50, 51, 123, 199, 200}) {
    const JobPlan plan = PlanJob(Spec(workers, workers), Facts(), MachineModel());
    EXPECT_GE(WorkerBytes(spec, demand, workers), SumOf(plan.memory)) << workers;
  }
}

// What the job's owner says stands in the place of predictions.
TEST(PredictDemand, BelievesTheOwner) {
  JobSpec spec = Spec(1, 3);
  spec.mutable_resources()->set_memory_gib(1.5);
  spec.mutable_resources()->set_expected_time_ms(90'000);
  const Demand demand = PredictDemand(spec, DataFacts());
  ASSERT_EQ(demand.worker_bytes_size(), 3);
  for (const std::int64_t bytes : demand.worker_bytes()) EXPECT_EQ(bytes, 3LL << 29);
  EXPECT_EQ(demand.job_seconds(), 90);
}

TEST(PredictDemand, WithoutTheDataItsTimeIsUnknown) {
  const Demand demand = PredictDemand(Spec(2, 2), DataFacts());
  EXPECT_FALSE(demand.has_job_seconds());
  EXPECT_EQ(demand.worker_bytes_size(), 1);
}

TEST(OwnerOf, IsTheLoginName) {
  EXPECT_EQ(OwnerOf("ada@lab"), "ada");
  EXPECT_EQ(OwnerOf("ada"), "ada");
  EXPECT_EQ(OwnerOf(""), "unknown");
  EXPECT_EQ(OwnerOf("@lab"), "unknown");
}

}  // namespace
}  // namespace fr
