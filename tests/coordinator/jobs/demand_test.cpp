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

// A node is asked for its own memory. What lies on the GPU is the GPU's, of which a worker has all:
// neither a larger batch nor a larger network asks for more of the node, but for images that wait.
TEST(PredictDemand, OfAGpuJobIsTheNodesMemoryAlone) {
  JobSpec spec = Spec(2, 2);
  spec.mutable_data()->set_batch_size(128);
  const std::int64_t on_processors = PredictDemand(spec, Facts()).worker_bytes(0);
  spec.mutable_resources()->set_device(Resources::gpu);
  const JobPlan plan = PlanJob(spec, Facts(), MachineModel());
  const std::int64_t beside_gpu = PredictDemand(spec, Facts()).worker_bytes(0);
  EXPECT_EQ(beside_gpu, SumOf(plan.memory));
  EXPECT_GT(SumOf(plan.gpu_memory), 0);
  EXPECT_LT(beside_gpu, on_processors);
  spec.mutable_data()->set_batch_size(256);
  constexpr std::int64_t kLoaded = 4LL * 128 * 3 * 112 * 112;  // four batches ahead
  EXPECT_EQ(PredictDemand(spec, Facts()).worker_bytes(0), beside_gpu + kLoaded);
}

// It may come to a processor: all of it is asked for.
TEST(PredictDemand, OfAnyDeviceIsThatOfAProcessor) {
  JobSpec spec = Spec(2, 2);
  spec.mutable_resources()->set_device(Resources::cpu);
  const std::int64_t on_processors = PredictDemand(spec, Facts()).worker_bytes(0);
  spec.mutable_resources()->set_device(Resources::auto_);
  EXPECT_EQ(PredictDemand(spec, Facts()).worker_bytes(0), on_processors);
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
