#include "common/store/run_store.h"

#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "common/store/retention.h"

namespace fr {
namespace {

class RunStoreTest : public testing::Test {
 protected:
  std::filesystem::path path() const { return directory_.path() / "store"; }

  static void Put(StoreBatch* batch, std::int64_t job, const std::string& name, std::int64_t step,
                  double value) {
    MetricPoint point;
    point.set_name(name);
    point.set_step(step);
    point.set_value(value);
    point.set_time_ms(1000 + step);
    batch->PutMetric(job, point);
  }

  static JobRecord Job(std::int64_t number, JobState state) {
    JobRecord job;
    job.set_number(number);
    job.set_id("job-" + std::to_string(number));
    job.set_state(state);
    return job;
  }

  static std::vector<std::int64_t> Numbers(const std::vector<JobRecord>& jobs) {
    std::vector<std::int64_t> numbers;
    for (const JobRecord& job : jobs) numbers.push_back(job.number());
    return numbers;
  }

  ErrorCode CodeOfOpening() {
    try {
      const RunStore store(path());
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(path().string()));
      return error.code();
    }
    return ErrorCode::kInternal;
  }

  TemporaryDirectory directory_;
};

// What was committed is there when the next process opens the store, in numeric order.
TEST_F(RunStoreTest, EverythingOutlivesTheProcess) {
  {
    RunStore store(path());
    StoreBatch batch;
    for (const std::int64_t number : {300, 2}) batch.PutJob(Job(number, JobState::PENDING));
    batch.PutJobFile(300, "name: a\n");
    for (const int index : {1, 0}) {
      Transition transition;
      transition.set_attempt(index);
      batch.PutTransition(2, index, transition);
    }
    ShardPlanProto plan;
    plan.set_generation(1);
    batch.PutShardPlan(2, plan);
    for (const int step : {2000, 500}) {
      CheckpointManifest manifest;
      manifest.set_step(step);
      batch.PutCheckpoint(2, manifest);
    }
    batch.PutSubmissionKey("key", 2);
    for (const char* name : {"node-b", "node-a"}) {
      NodeRecord node;
      node.set_name(name);
      node.set_drained(true);
      batch.PutNode(node);
      UserRecord user;
      user.set_name(name);
      user.set_slot_seconds(0.5);
      batch.PutUser(user);
    }
    store.Commit(std::move(batch));
    StoreBatch later;
    later.DeleteCheckpoint(2, 500);
    store.Commit(std::move(later));
  }
  const RunStore store(path());
  EXPECT_THAT(Numbers(store.LiveJobs()), testing::ElementsAre(2, 300));
  EXPECT_EQ(store.LastJobNumber(), 300);
  EXPECT_EQ(store.Job(300)->id(), "job-300");
  EXPECT_EQ(store.JobFile(300), "name: a\n");
  EXPECT_EQ(store.JobFile(2), std::nullopt);
  EXPECT_FALSE(store.Job(3).has_value());
  EXPECT_EQ(store.Transitions(2)[1].attempt(), 1);
  EXPECT_EQ(store.ShardPlans(2).size(), 1U);
  ASSERT_EQ(store.Checkpoints(2).size(), 1U);
  EXPECT_EQ(store.Checkpoints(2)[0].step(), 2000);
  EXPECT_EQ(store.JobOfSubmissionKey("key"), 2);
  EXPECT_EQ(store.JobOfSubmissionKey("other"), std::nullopt);
  ASSERT_EQ(store.Nodes().size(), 2U);
  EXPECT_EQ(store.Nodes()[0].name(), "node-a");
  EXPECT_TRUE(store.Nodes()[0].drained());
  ASSERT_EQ(store.Users().size(), 2U);
  EXPECT_EQ(store.Users()[1].name(), "node-b");
  EXPECT_EQ(store.Users()[1].slot_seconds(), 0.5);
}

// A job is live until it has ended and its processes are gone; what the store says of it follows
// every change, and is the same to the next process.
TEST_F(RunStoreTest, LiveJobsAndCountsFollowTheJobs) {
  const auto check = [](const RunStore& store) {
    EXPECT_THAT(Numbers(store.LiveJobs()), testing::ElementsAre(1, 3, 4));
    EXPECT_THAT(store.CountJobs(), testing::ElementsAre(testing::Pair(JobState::RUNNING, 1),
                                                        testing::Pair(JobState::COMPLETED, 1),
                                                        testing::Pair(JobState::FAILED, 2),
                                                        testing::Pair(JobState::PAUSED, 1)));
    EXPECT_EQ(store.LastJobNumber(), 5);
  };
  {
    RunStore store(path());
    EXPECT_TRUE(store.LiveJobs().empty());
    EXPECT_TRUE(store.CountJobs().empty());
    EXPECT_EQ(store.LastJobNumber(), 0);
    for (const JobState state : {JobState::PENDING, JobState::RUNNING}) {
      StoreBatch batch;
      for (int number = 1; number <= 5; ++number) batch.PutJob(Job(number, state));
      store.Commit(std::move(batch));
    }
    EXPECT_THAT(store.CountJobs(), testing::ElementsAre(testing::Pair(JobState::RUNNING, 5)));
    StoreBatch batch;
    batch.PutJob(Job(2, JobState::COMPLETED));
    batch.PutJob(Job(3, JobState::PAUSED));
    JobRecord lingering = Job(4, JobState::FAILED);
    lingering.mutable_launch()->set_pid(7);
    batch.PutJob(lingering);
    batch.PutJob(Job(5, JobState::FAILED));
    store.Commit(std::move(batch));
    check(store);
  }
  check(RunStore(path()));
}

// Latest first, page by page; what does not fit the filter takes no place on a page.
TEST_F(RunStoreTest, ListsArePages) {
  RunStore store(path());
  StoreBatch batch;
  for (int number = 1; number <= 20; ++number) {
    JobRecord job = Job(number, number % 2 == 0 ? JobState::COMPLETED : JobState::PENDING);
    job.set_owner(number <= 10 ? "ada" : "bob");
    batch.PutJob(job);
  }
  store.Commit(std::move(batch));

  JobFilter filter;
  filter.limit = 15;
  JobPage page = store.Jobs(filter);
  ASSERT_EQ(page.jobs.size(), 15U);
  EXPECT_EQ(page.jobs.front().number(), 20);
  EXPECT_EQ(page.jobs.back().number(), 6);
  EXPECT_TRUE(page.more);
  filter.before = 6;
  page = store.Jobs(filter);
  EXPECT_THAT(Numbers(page.jobs), testing::ElementsAre(5, 4, 3, 2, 1));
  EXPECT_FALSE(page.more);

  filter = {"ada", {JobState::COMPLETED}, std::nullopt, 5};
  page = store.Jobs(filter);
  EXPECT_THAT(Numbers(page.jobs), testing::ElementsAre(10, 8, 6, 4, 2));
  EXPECT_FALSE(page.more);
  filter.limit = 4;
  EXPECT_TRUE(store.Jobs(filter).more);
  filter.owner = "eve";
  EXPECT_TRUE(store.Jobs(filter).jobs.empty());
  filter = {"", {}, 1, 5};
  EXPECT_TRUE(store.Jobs(filter).jobs.empty());
  filter.before = std::numeric_limits<std::int64_t>::min();
  EXPECT_TRUE(store.Jobs(filter).jobs.empty());
  filter.before = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(store.Jobs(filter).jobs.front().number(), 20);
  filter.limit = 0;
  EXPECT_TRUE(store.Jobs(filter).jobs.empty());
}

// The file is kept once; a record that still has it, or is of no job, is a mistake of the caller.
TEST_F(RunStoreTest, RecordsComeWithoutTheirFile) {
  StoreBatch batch;
  JobRecord job = Job(1, JobState::PENDING);
  job.set_yaml("name: a\n");
  EXPECT_THROW(batch.PutJob(job), Error);
  EXPECT_THROW(batch.PutJob(JobRecord()), Error);
}

// Whatever the threads' order, each commit is there, with all its parts, and counted.
TEST_F(RunStoreTest, ThreadsCommitAtATime) {
  constexpr int kThreads = 8;
  constexpr int kCommits = 20;
  {
    RunStore store(path());
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < kCommits; ++i) {
          const std::int64_t number = 1 + thread * kCommits + i;
          StoreBatch batch;
          batch.PutJob(Job(number, JobState::PENDING));
          batch.PutSubmissionKey(std::to_string(number), number);
          store.Commit(std::move(batch));
          EXPECT_EQ(store.Job(number)->number(), number);
        }
      });
    }
    threads.clear();
    EXPECT_THAT(store.CountJobs(),
                testing::ElementsAre(testing::Pair(JobState::PENDING, kThreads * kCommits)));
  }
  const RunStore store(path());
  EXPECT_EQ(store.LiveJobs().size(), std::size_t{kThreads * kCommits});
  for (int number = 1; number <= kThreads * kCommits; ++number) {
    EXPECT_EQ(store.JobOfSubmissionKey(std::to_string(number)), number);
  }
}

// The same point again, or a step that was trained again, replaces what was there.
TEST_F(RunStoreTest, MetricsAreSeriesByStep) {
  RunStore store(path());
  StoreBatch batch;
  for (const std::int64_t step : {300, 2, 10}) Put(&batch, 1, "train/loss", step, 1.0);
  Put(&batch, 1, "train/loss", 10, 0.5);
  Put(&batch, 1, "train/lr", 10, -0.0);
  Put(&batch, 1, "train/loss/x", 7, 3);
  Put(&batch, 2, "train/loss", 1, 9);
  store.Commit(std::move(batch));

  const auto all = store.Metrics(1, {}, -1);
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0].name(), "train/loss");
  EXPECT_THAT(all[0].steps(), testing::ElementsAre(2, 10, 300));
  EXPECT_THAT(all[0].values(), testing::ElementsAre(1.0, 0.5, 1.0));
  EXPECT_THAT(all[0].times_ms(), testing::ElementsAre(1002, 1010, 1300));
  const auto some = store.Metrics(1, {"train/loss", "none"}, 10);
  ASSERT_EQ(some.size(), 1U);
  EXPECT_THAT(some[0].steps(), testing::ElementsAre(300));
  EXPECT_TRUE(store.Metrics(3, {}, -1).empty());
  // A name that ends in a slash stands for all below it, each once.
  const auto below = store.Metrics(1, {"train/loss/", "train/loss/x", "train/l"}, -1);
  ASSERT_EQ(below.size(), 1U);
  EXPECT_EQ(below[0].name(), "train/loss/x");
  EXPECT_EQ(store.Metrics(1, {"train/"}, -1).size(), 3U);
  EXPECT_EQ(store.Metrics(1, {"train/"}, 10).size(), 1U);

  const auto last = store.LastPoints(1);
  ASSERT_EQ(last.size(), 3U);
  EXPECT_EQ(last[0].name(), "train/loss");
  EXPECT_EQ(last[0].step(), 300);
  EXPECT_EQ(last[0].value(), 1.0);
  EXPECT_EQ(last[0].time_ms(), 1300);
  EXPECT_EQ(last[1].name(), "train/loss/x");
  EXPECT_EQ(last[2].name(), "train/lr");
  ASSERT_EQ(store.LastPoints(2).size(), 1U);
  EXPECT_EQ(store.LastPoints(2)[0].value(), 9);
  EXPECT_TRUE(store.LastPoints(3).empty());

  StoreBatch nameless;
  EXPECT_THROW(Put(&nameless, 1, "", 1, 1), Error);
}

TEST_F(RunStoreTest, TwoProcessesDoNotShareIt) {
  const RunStore store(path());
  EXPECT_EQ(CodeOfOpening(), ErrorCode::kUnavailable);
}

// Damage is an error that names the directory; never a fresh store on top of the old one.
TEST_F(RunStoreTest, DamageIsNamed) {
  { const RunStore store(path()); }
  std::filesystem::remove(path() / "CURRENT");
  EXPECT_EQ(CodeOfOpening(), ErrorCode::kDataLoss);
  std::ofstream(path() / "CURRENT") << "nonsense\n";
  EXPECT_NE(CodeOfOpening(), ErrorCode::kInternal);
}

CheckpointManifest Checkpoint(std::int64_t step, double accuracy) {
  CheckpointManifest manifest;
  manifest.set_step(step);
  ValidationResult* result = manifest.add_validation();
  result->set_set("lfw");
  result->set_accuracy(accuracy);
  return manifest;
}

// The last `keep`, and the best one: the earliest of equals.
TEST(Retention, KeepsTheLatestAndTheBest) {
  const std::vector<CheckpointManifest> checkpoints = {Checkpoint(1, 0.5), Checkpoint(2, 0.9),
                                                       Checkpoint(3, 0.9), Checkpoint(4, 0.7),
                                                       Checkpoint(5, 0.6)};
  CheckpointSpec policy;
  policy.set_keep(2);
  EXPECT_THAT(RetiredCheckpoints(checkpoints, policy), testing::ElementsAre(1, 2, 3));
  policy.set_keep_best("lfw");
  EXPECT_THAT(RetiredCheckpoints(checkpoints, policy), testing::ElementsAre(1, 3));
  policy.set_keep(9);
  EXPECT_TRUE(RetiredCheckpoints(checkpoints, policy).empty());
  EXPECT_TRUE(RetiredCheckpoints({}, policy).empty());
}

// Pinned ones stay, and take no place of those that `keep` counts; the best may be one of them.
TEST(Retention, LeavesPinnedOnesAlone) {
  std::vector<CheckpointManifest> checkpoints = {Checkpoint(1, 0.5), Checkpoint(2, 0.9),
                                                 Checkpoint(3, 0.8), Checkpoint(4, 0.7),
                                                 Checkpoint(5, 0.6)};
  CheckpointSpec policy;
  policy.set_keep(2);
  policy.set_keep_best("lfw");
  checkpoints[0].set_pinned(true);
  EXPECT_THAT(RetiredCheckpoints(checkpoints, policy), testing::ElementsAre(3));
  checkpoints[4].set_pinned(true);
  EXPECT_THAT(RetiredCheckpoints(checkpoints, policy), testing::IsEmpty());
  checkpoints[1].set_pinned(true);
  policy.set_keep(1);
  EXPECT_THAT(RetiredCheckpoints(checkpoints, policy), testing::ElementsAre(3));
}

// A step that is trained again after a restart commits its checkpoint again.
TEST(Retention, APinOutlivesASecondCommitOfItsStep) {
  std::vector<CheckpointManifest> checkpoints = {Checkpoint(1, 0.5), Checkpoint(2, 0.5),
                                                 Checkpoint(3, 0.5)};
  checkpoints[1].set_pinned(true);
  EXPECT_TRUE(AddCheckpoint(&checkpoints, Checkpoint(2, 0.7)).pinned());
  EXPECT_EQ(checkpoints.size(), 2U);
  EXPECT_EQ(checkpoints.back().validation(0).accuracy(), 0.7);
  EXPECT_FALSE(AddCheckpoint(&checkpoints, Checkpoint(4, 0.5)).pinned());
  EXPECT_EQ(checkpoints.back().step(), 4);
}

}  // namespace
}  // namespace fr
