#include "coordinator/coordinator.h"

#include <functional>
#include <memory>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "tests/coordinator/fake_mpirun.h"
#include "tests/coordinator/wait_for.h"

namespace fr {
namespace {

std::optional<ErrorCode> CodeOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

// A coordinator whose workers are shell scripts; the tests speak in the workers' place.
class CoordinatorTest : public testing::Test {
 protected:
  CoordinatorTest() { Start("exec sleep 60"); }
  ~CoordinatorTest() override {
    const ListJobsReply list = coordinator_->List({});
    for (const JobRecord& job : list.jobs()) {
      if (job.has_launch()) launcher_->Signal(job.launch(), SIGKILL);
    }
  }

  // (Re)starts it on the same state, as after a kill.
  void Start(const std::string& mpirun) {
    coordinator_.reset();
    spec_.set_state_dir((directory_.path() / "state").string());
    spec_.set_restart_backoff_ms(0);
    spec_.set_kill_grace_ms(100);
    if (spec_.nodes_size() == 0) {
      spec_.add_nodes()->set_name("localhost");
      spec_.mutable_nodes(0)->set_slots(2);
    }
    launcher_.emplace(LauncherOptions{WriteFakeMpirun(directory_.path(), mpirun), {}, "worker"});
    coordinator_ = std::make_unique<Coordinator>(spec_, *launcher_);
    coordinator_->SetAddresses("tcp://127.0.0.1:1", "127.0.0.1:2");
  }

  std::string Submit(int workers = 1, int priority = 50, int max_restarts = 1) {
    SubmitJobRequest request;
    request.mutable_spec()->set_name("test");
    request.mutable_spec()->set_priority(priority);
    request.mutable_spec()->mutable_data()->set_train("/data");
    request.mutable_spec()->mutable_resources()->set_workers(workers);
    request.mutable_spec()->mutable_restart()->set_max_restarts(max_restarts);
    request.mutable_spec()->mutable_checkpoint()->set_keep(2);
    return coordinator_->Submit(request).job_id();
  }

  JobRecord Job(const std::string& id) {
    GetJobRequest request;
    request.set_job_id(id);
    return coordinator_->Get(request).job();
  }
  JobState State(const std::string& id) { return Job(id).state(); }

  bool TickUntil(const std::function<bool()>& condition) {
    return WaitFor([&] {
      coordinator_->Tick();
      return condition();
    });
  }

  GetAssignmentReply Begin(const std::string& id, int attempt) {
    GetAssignmentRequest request;
    request.set_job_id(id);
    request.set_attempt(attempt);
    request.set_world_size(1);
    return coordinator_->GetAssignment(request);
  }

  WorkerReportRequest Report(const std::string& id, int attempt) {
    WorkerReportRequest request;
    request.set_job_id(id);
    request.set_attempt(attempt);
    return request;
  }

  void Point(WorkerReportRequest* report, std::int64_t step, double value) {
    MetricPoint* point = report->add_points();
    point->set_name("train/loss");
    point->set_step(step);
    point->set_value(value);
  }

  // With a directory, as workers leave it.
  void CommitCheckpoint(const std::string& id, int attempt, std::int64_t step) {
    const auto files = directory_.path() / std::to_string(step);
    std::filesystem::create_directories(files);
    WorkerReportRequest report = Report(id, attempt);
    CheckpointManifest* manifest = report.add_checkpoints();
    manifest->set_step(step);
    manifest->set_directory(files.string());
    coordinator_->WorkerReport(report);
  }

  std::vector<std::int64_t> CheckpointSteps(const std::string& id) {
    ListCheckpointsRequest request;
    request.set_job_id(id);
    const ListCheckpointsReply reply = coordinator_->ListCheckpoints(request);
    std::vector<std::int64_t> steps;
    for (const auto& manifest : reply.checkpoints()) steps.push_back(manifest.step());
    return steps;
  }

  // Whether it was retired.
  bool Pin(const std::string& id, std::int64_t step, bool pinned) {
    PinCheckpointRequest request;
    request.set_job_id(id);
    request.set_step(step);
    request.set_pinned(pinned);
    return coordinator_->PinCheckpoint(request).retired();
  }

  std::string RunningJob() {
    const std::string id = Submit();
    coordinator_->Tick();
    Begin(id, 1);
    return id;
  }

  TemporaryDirectory directory_;
  CoordinatorSpec spec_;
  std::optional<Launcher> launcher_;
  std::unique_ptr<Coordinator> coordinator_;
};

TEST_F(CoordinatorTest, AJobGoesItsRoad) {
  const std::string id = Submit();
  EXPECT_EQ(id, "job-1");
  EXPECT_EQ(State(id), JobState::PENDING);
  coordinator_->Tick();
  EXPECT_EQ(State(id), JobState::STARTING);
  EXPECT_EQ(Begin(id, 1).resume_from_size(), 0);
  EXPECT_EQ(State(id), JobState::RUNNING);

  WorkerReportRequest report = Report(id, 1);
  Point(&report, 1, 2.5);
  report.set_outcome(WorkerOutcome::DONE);
  report.set_reason("all steps are done");
  coordinator_->WorkerReport(report);
  EXPECT_EQ(State(id), JobState::COMPLETED);
  // The same words again, because the reply was lost: no harm.
  EXPECT_NO_THROW(coordinator_->WorkerReport(report));

  GetJobRequest request;
  request.set_job_id(id);
  const GetJobReply reply = coordinator_->Get(request);
  std::vector<JobState> states;
  for (const Transition& transition : reply.transitions()) {
    states.push_back(transition.to());
  }
  EXPECT_THAT(states, testing::ElementsAre(JobState::PENDING, JobState::STARTING, JobState::RUNNING,
                                           JobState::COMPLETED));
}

TEST_F(CoordinatorTest, TheSameSubmissionTwiceIsOneJob) {
  SubmitJobRequest request;
  request.mutable_spec()->set_name("test");
  request.mutable_spec()->mutable_data()->set_train("/data");
  request.set_submission_key("key");
  EXPECT_EQ(coordinator_->Submit(request).job_id(), coordinator_->Submit(request).job_id());
  EXPECT_EQ(coordinator_->List({}).jobs_size(), 1);
}

// Slots are taken from the start of an attempt until its last process has gone.
TEST_F(CoordinatorTest, SlotsAreHeldUntilTheProcessesAreGone) {
  const std::string first = Submit(2);
  const std::string second = Submit(1);
  coordinator_->Tick();
  EXPECT_EQ(State(first), JobState::STARTING);
  EXPECT_EQ(State(second), JobState::PENDING);
  EXPECT_EQ(coordinator_->ListNodes({}).nodes(0).slots_used(), 2);

  CancelJobRequest cancel;
  cancel.set_job_id(first);
  coordinator_->Cancel(cancel);
  EXPECT_EQ(State(first), JobState::CANCELLED);
  EXPECT_EQ(coordinator_->ListNodes({}).nodes(0).slots_used(), 2);
  EXPECT_TRUE(TickUntil([&] { return State(second) == JobState::STARTING; }));
  EXPECT_FALSE(Job(first).has_launch());
}

TEST_F(CoordinatorTest, WorkersThatIgnoreTheirEndAreKilled) {
  Start("trap '' TERM; while :; do sleep 0.05; done");
  const std::string id = RunningJob();
  CancelJobRequest cancel;
  cancel.set_job_id(id);
  coordinator_->Cancel(cancel);
  EXPECT_TRUE(TickUntil([&] { return !Job(id).has_launch(); }));
}

// Workers that die are started again, as often as the job says; then it fails with their words.
TEST_F(CoordinatorTest, WhatDiesIsRestartedThenFails) {
  Start("echo the roof is on fire; exit 9");
  const std::string id = Submit(1, 50, 2);
  EXPECT_TRUE(TickUntil([&] { return State(id) == JobState::FAILED; }));
  const JobRecord job = Job(id);
  EXPECT_EQ(job.attempt(), 3);
  EXPECT_EQ(job.restarts(), 2);
  EXPECT_THAT(job.reason(), testing::HasSubstr("exit status 9"));
  EXPECT_THAT(job.reason(), testing::HasSubstr("the roof is on fire"));
}

// A mistake that another attempt would repeat is not tried again.
TEST_F(CoordinatorTest, AFailureForGoodIsFinal) {
  const std::string id = RunningJob();
  WorkerReportRequest report = Report(id, 1);
  report.set_outcome(WorkerOutcome::FAILED_FOR_GOOD);
  report.set_reason("rank 0: train.rec is truncated");
  coordinator_->WorkerReport(report);
  EXPECT_EQ(State(id), JobState::FAILED);
  EXPECT_EQ(Job(id).reason(), "rank 0: train.rec is truncated");
  EXPECT_TRUE(TickUntil([&] { return !Job(id).has_launch(); }));
  EXPECT_EQ(State(id), JobState::FAILED);
}

TEST_F(CoordinatorTest, AJobThatStandsStillIsRestarted) {
  SubmitJobRequest request;
  request.mutable_spec()->set_name("test");
  request.mutable_spec()->mutable_data()->set_train("/data");
  request.mutable_spec()->mutable_restart()->set_stall_timeout_ms(50);
  const std::string id = coordinator_->Submit(request).job_id();
  EXPECT_TRUE(TickUntil([&] { return Job(id).attempt() == 2; }));
  EXPECT_EQ(Job(id).restarts(), 1);
}

// Whoever belongs to a former attempt is told to end, and changes nothing.
TEST_F(CoordinatorTest, AFormerAttemptIsTurnedAway) {
  Start("exit 1");
  const std::string id = Submit(1, 50, 5);
  ASSERT_TRUE(TickUntil([&] { return Job(id).attempt() == 2; }));
  WorkerReportRequest report = Report(id, 1);
  Point(&report, 1, 2.5);
  EXPECT_EQ(CodeOf([&] { coordinator_->WorkerReport(report); }), ErrorCode::kFailedPrecondition);
  EXPECT_EQ(CodeOf([&] { Begin(id, 1); }), ErrorCode::kFailedPrecondition);
  GetMetricsRequest metrics;
  metrics.set_job_id(id);
  EXPECT_EQ(coordinator_->GetMetrics(metrics).series_size(), 0);
}

// Killed at any time, the next coordinator has the job, its points, and its running workers.
TEST_F(CoordinatorTest, ARestartOfTheCoordinatorLosesNothing) {
  const std::string id = RunningJob();
  WorkerReportRequest report = Report(id, 1);
  Point(&report, 1, 2.5);
  report.mutable_progress()->set_step(1);
  coordinator_->WorkerReport(report);
  const LaunchRecord launch = Job(id).launch();

  Start("exec sleep 60");
  coordinator_->Tick();
  EXPECT_EQ(State(id), JobState::RUNNING);
  EXPECT_EQ(Job(id).launch().pid(), launch.pid());
  WorkerReportRequest more = Report(id, 1);
  Point(&more, 2, 2.0);
  more.set_outcome(WorkerOutcome::DONE);
  coordinator_->WorkerReport(more);
  EXPECT_EQ(State(id), JobState::COMPLETED);
  GetMetricsRequest metrics;
  metrics.set_job_id(id);
  EXPECT_THAT(coordinator_->GetMetrics(metrics).series(0).steps(), testing::ElementsAre(1, 2));
  EXPECT_EQ(Submit(), "job-2");
}

// The newest checkpoints stay, manifest and files; a new attempt gets them, latest first.
TEST_F(CoordinatorTest, CheckpointsAreKeptAndContinuedFrom) {
  const std::string id = RunningJob();
  for (const int step : {10, 20, 30}) {
    CommitCheckpoint(id, 1, step);
    EXPECT_NO_THROW(CommitCheckpoint(id, 1, step));
  }
  EXPECT_FALSE(std::filesystem::exists(directory_.path() / "10"));
  EXPECT_TRUE(std::filesystem::exists(directory_.path() / "20"));
  EXPECT_THAT(CheckpointSteps(id), testing::ElementsAre(20, 30));

  launcher_->Signal(Job(id).launch(), SIGKILL);
  ASSERT_TRUE(TickUntil([&] { return Job(id).attempt() == 2; }));
  const GetAssignmentReply assignment = Begin(id, 2);
  ASSERT_EQ(assignment.resume_from_size(), 2);  // a damaged one is passed over for the one before
  EXPECT_EQ(assignment.resume_from(0).step(), 30);
  EXPECT_EQ(assignment.resume_from(1).step(), 20);
}

// A pinned checkpoint stays through whatever is committed after it, its own step again included;
// unpinned, it goes at once if it would have gone before.
TEST_F(CoordinatorTest, APinnedCheckpointStaysUntilItIsUnpinned) {
  const std::string id = RunningJob();
  CommitCheckpoint(id, 1, 10);
  EXPECT_FALSE(Pin(id, 10, true));
  EXPECT_FALSE(Pin(id, 10, true));
  for (const int step : {10, 20, 30, 40}) CommitCheckpoint(id, 1, step);
  Start("exec sleep 60");  // by another coordinator, too
  EXPECT_THAT(CheckpointSteps(id), testing::ElementsAre(10, 30, 40));
  EXPECT_TRUE(std::filesystem::exists(directory_.path() / "10"));

  EXPECT_FALSE(Pin(id, 40, true));
  EXPECT_FALSE(Pin(id, 40, false));  // one of the latest
  EXPECT_TRUE(Pin(id, 10, false));
  EXPECT_THAT(CheckpointSteps(id), testing::ElementsAre(30, 40));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() / "10"));
  try {
    Pin(id, 10, true);
    FAIL() << "there is no such checkpoint";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), testing::HasSubstr("it has 30, 40"));
  }
}

// What is watched from outside: the last point of every metric, as it was reported last, and after
// a restart of the coordinator as it is stored. Jobs that wait are only counted.
TEST_F(CoordinatorTest, ASnapshotHasTheLastPointsOfJobsThatRun) {
  const std::string id = RunningJob();
  Submit(/*workers=*/64);
  const auto loss = [&] {
    const Snapshot snapshot = coordinator_->TakeSnapshot();
    EXPECT_EQ(snapshot.jobs.size(), 1U);
    EXPECT_EQ(snapshot.jobs_by_state,
              (std::map<JobState, std::int64_t>{{JobState::PENDING, 1}, {JobState::RUNNING, 1}}));
    EXPECT_EQ(snapshot.nodes.at(0).slots_used(), 1);
    const JobFigures& job = snapshot.jobs.at(0);
    EXPECT_EQ(job.record.id(), id);
    return job.latest.empty() ? -1 : job.latest.at(0).value();
  };
  EXPECT_EQ(loss(), -1);
  const auto report = [&](std::int64_t step, double value) {
    WorkerReportRequest request = Report(id, 1);
    Point(&request, step, value);
    coordinator_->WorkerReport(request);
    return loss();
  };
  EXPECT_EQ(report(10, 3), 3);
  EXPECT_EQ(report(20, 2), 2);
  Start("exec sleep 60");
  EXPECT_EQ(loss(), 2);
  EXPECT_EQ(report(15, 2.5), 2.5);  // trained again after a restart from a checkpoint
}

// The plan's generation grows when the world changes, and only then.
TEST_F(CoordinatorTest, AShardPlanStaysWhileTheWorldDoes) {
  const std::string id = RunningJob();
  RequestShardPlanRequest request;
  request.set_job_id(id);
  request.set_attempt(1);
  request.set_num_identities(7);
  request.set_bytes_per_identity(8);
  request.add_capacity_bytes(1000);
  request.add_capacity_bytes(1000);
  EXPECT_EQ(coordinator_->RequestShardPlan(request).plan().generation(), 1);
  EXPECT_EQ(coordinator_->RequestShardPlan(request).plan().generation(), 1);
  request.add_capacity_bytes(1000);
  EXPECT_EQ(coordinator_->RequestShardPlan(request).plan().generation(), 2);
  request.set_bytes_per_identity(10'000);
  EXPECT_EQ(CodeOf([&] { coordinator_->RequestShardPlan(request); }),
            ErrorCode::kResourceExhausted);
}

TEST_F(CoordinatorTest, RequestsThatMakeNoSenseAreRefused) {
  GetJobRequest get;
  for (const char* id : {"job-9", "job-", "", "9", "job-1x", "job--1"}) {
    get.set_job_id(id);
    EXPECT_EQ(CodeOf([&] { coordinator_->Get(get); }), ErrorCode::kNotFound) << id;
  }
  EXPECT_EQ(CodeOf([&] { coordinator_->Submit({}); }), ErrorCode::kInvalidArgument);
  const std::string id = RunningJob();
  WorkerReportRequest done = Report(id, 1);
  done.set_outcome(WorkerOutcome::DONE);
  coordinator_->WorkerReport(done);
  CancelJobRequest cancel;
  cancel.set_job_id(id);
  EXPECT_EQ(CodeOf([&] { coordinator_->Cancel(cancel); }), ErrorCode::kFailedPrecondition);
}

TEST_F(CoordinatorTest, ALogIsReadInPieces) {
  Start("printf 'one\\ntwo\\n'; exec sleep 60");
  const std::string id = Submit();
  coordinator_->Tick();
  GetLogsRequest request;
  request.set_job_id(id);
  ASSERT_TRUE(WaitFor([&] { return coordinator_->GetLogs(request).next_offset() == 8; }));
  EXPECT_FALSE(coordinator_->GetLogs(request).job_ended());
  request.set_offset(-4);
  EXPECT_EQ(coordinator_->GetLogs(request).text(), "two\n");
  request.set_offset(0);
  request.set_max_bytes(4);
  EXPECT_EQ(coordinator_->GetLogs(request).text(), "one\n");
  request.set_attempt(2);
  EXPECT_EQ(CodeOf([&] { coordinator_->GetLogs(request); }), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace fr
