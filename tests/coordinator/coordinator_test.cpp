// A job's road, its attempts and what its workers say. coordinator_cluster_test.cpp is about nodes,
// users and making room.

#include <set>
#include <thread>

#include <gmock/gmock.h>

#include "common/base/file.h"
#include "coordinator/launch/attempt_files.h"
#include "tests/coordinator/coordinator_fixture.h"
#include "tests/coordinator/wait_for.h"

namespace fr {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST_F(CoordinatorTest, AJobGoesItsRoad) {
  const std::string id = Submit();
  EXPECT_EQ(id, "job-1");
  EXPECT_EQ(State(id), JobState::PENDING);
  coordinator_->Tick();
  EXPECT_EQ(State(id), JobState::STARTING);
  EXPECT_EQ(cluster_.Of(id, 1).request.coordinator, "tcp://127.0.0.1:1");
  EXPECT_EQ(Begin(id, 1).resume_from_size(), 0);
  EXPECT_EQ(State(id), JobState::RUNNING);

  WorkerReportRequest report = Report(id, 1, WorkerOutcome::DONE);
  Point(&report, 1, 2.5);
  report.set_reason("all steps are done");
  coordinator_->WorkerReport(report);
  EXPECT_EQ(State(id), JobState::COMPLETED);
  // The same words again, because the reply was lost: no harm.
  EXPECT_NO_THROW(coordinator_->WorkerReport(report));
  EXPECT_THAT(History(id), ElementsAre(JobState::PENDING, JobState::STARTING, JobState::RUNNING,
                                       JobState::COMPLETED));
}

TEST_F(CoordinatorTest, TheSameSubmissionTwiceIsOneJob) {
  SubmitJobRequest request = Request();
  request.set_submission_key("key");
  EXPECT_EQ(coordinator_->Submit(request).job_id(), coordinator_->Submit(request).job_id());
  EXPECT_EQ(coordinator_->List({}).jobs_size(), 1);
}

// A client that has given up waiting for its reply asks again while the first is on its way to the
// disk; others come at the same time. Each is one job.
TEST_F(CoordinatorTest, SubmissionsAtATimeAreOneJobEach) {
  constexpr int kKeys = 8;
  std::vector<std::jthread> clients;
  for (int i = 0; i < 3 * kKeys; ++i) {
    clients.emplace_back([this, i] {
      SubmitJobRequest request = Request();
      request.set_submission_key(std::to_string(i % kKeys));
      coordinator_->Submit(request);
    });
  }
  clients.clear();
  const ListJobsReply list = coordinator_->List({});
  std::set<std::int64_t> numbers;
  for (const JobRecord& job : list.jobs()) numbers.insert(job.number());
  EXPECT_EQ(list.jobs_size(), kKeys);
  EXPECT_EQ(numbers.size(), static_cast<std::size_t>(kKeys));
}

// Slots are taken from the start of an attempt until its last process has gone.
TEST_F(CoordinatorTest, SlotsAreHeldUntilTheProcessesAreGone) {
  const std::string first = Submit(2);
  const std::string second = Submit(1);
  coordinator_->Tick();
  EXPECT_EQ(State(first), JobState::STARTING);
  EXPECT_EQ(State(second), JobState::PENDING);
  EXPECT_EQ(coordinator_->ListNodes({}).nodes(0).slots_used(), 2);

  Cancel(first);
  EXPECT_EQ(State(first), JobState::CANCELLED);
  EXPECT_EQ(coordinator_->ListNodes({}).nodes(0).slots_used(), 2);
  coordinator_->Tick();  // asks the workers to end
  EXPECT_EQ(State(second), JobState::PENDING);
  coordinator_->Tick();  // they have
  EXPECT_EQ(State(second), JobState::STARTING);
  EXPECT_FALSE(Job(first).has_launch());
}

TEST_F(CoordinatorTest, WorkersThatIgnoreTheirEndAreKilled) {
  cluster_.ends_when_asked = false;
  const std::string id = RunningJob();
  Cancel(id);
  ASSERT_TRUE(WaitFor([&] {
    coordinator_->Tick();
    return !Job(id).has_launch();
  }));
  EXPECT_EQ(cluster_.Of(id, 1).asked, 1);
  EXPECT_EQ(cluster_.Of(id, 1).killed, 1);
}

// Workers that die are started again, as often as the job says; then it fails with their words.
TEST_F(CoordinatorTest, WhatDiesIsRestartedThenFails) {
  const std::string id = Submit();  // with one restart
  coordinator_->Tick();
  MakeDirectories(Job(id).launch().directory());
  WriteFileAtomically(std::filesystem::path(Job(id).launch().directory()) / kLogFile,
                      "the roof is on fire\n");
  cluster_.End(id, 1, 9);
  Ticks(2);
  EXPECT_EQ(Job(id).attempt(), 2);
  EXPECT_EQ(Job(id).restarts(), 1);
  EXPECT_THAT(Get(id).transitions(2).reason(),
              testing::AllOf(HasSubstr("exit status 9"), HasSubstr("the roof is on fire")));
  cluster_.End(id, 2, std::nullopt);
  coordinator_->Tick();
  EXPECT_EQ(State(id), JobState::FAILED);
  EXPECT_EQ(Job(id).reason(), "the workers were killed (and 1 restarts did not help)");
}

// A mistake that another attempt would repeat is not tried again.
TEST_F(CoordinatorTest, AFailureForGoodIsFinal) {
  const std::string id = RunningJob();
  WorkerReportRequest report = Report(id, 1, WorkerOutcome::FAILED_FOR_GOOD);
  report.set_reason("rank 0: train.rec is truncated");
  coordinator_->WorkerReport(report);
  EXPECT_EQ(State(id), JobState::FAILED);
  EXPECT_EQ(Job(id).reason(), "rank 0: train.rec is truncated");
  cluster_.End(id, 1, 1);
  coordinator_->Tick();
  EXPECT_FALSE(Job(id).has_launch());
  EXPECT_EQ(State(id), JobState::FAILED);
}

TEST_F(CoordinatorTest, AJobThatStandsStillIsRestarted) {
  SubmitJobRequest request = Request();
  request.mutable_spec()->mutable_restart()->set_stall_timeout_ms(50);
  const std::string id = coordinator_->Submit(request).job_id();
  EXPECT_TRUE(WaitFor([&] {
    coordinator_->Tick();
    return Job(id).attempt() == 2;
  }));
  EXPECT_EQ(Job(id).restarts(), 1);
  EXPECT_EQ(cluster_.Of(id, 1).asked, 1);
}

// Whoever belongs to a former attempt is told to end, and changes nothing.
TEST_F(CoordinatorTest, AFormerAttemptIsTurnedAway) {
  const std::string id = RunningJob();
  cluster_.End(id, 1, 1);
  Ticks(2);
  ASSERT_EQ(Job(id).attempt(), 2);
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

  Start();
  coordinator_->Tick();
  EXPECT_EQ(State(id), JobState::RUNNING);
  EXPECT_EQ(Job(id).attempt(), 1);
  WorkerReportRequest more = Report(id, 1, WorkerOutcome::DONE);
  Point(&more, 2, 2.0);
  coordinator_->WorkerReport(more);
  EXPECT_EQ(State(id), JobState::COMPLETED);
  GetMetricsRequest metrics;
  metrics.set_job_id(id);
  EXPECT_THAT(coordinator_->GetMetrics(metrics).series(0).steps(), ElementsAre(1, 2));
  EXPECT_EQ(Submit(), "job-2");
}

// A coordinator that was killed before it heard from its launcher leaves an attempt of which nobody
// knows whether it runs. The launcher finds out: what runs goes on, what does not is started anew,
// and costs no restart.
TEST_F(CoordinatorTest, AnUnansweredStartIsFoundOrDoneAgain) {
  const std::string found = Submit();
  const std::string lost = Submit();
  coordinator_->Tick();
  coordinator_.reset();
  ForgetLaunch({1, 2});
  cluster_.attempts.erase(FakeCluster::Name(lost, 1));

  Start();
  coordinator_->Tick();
  EXPECT_EQ(State(found), JobState::STARTING);
  EXPECT_EQ(Job(found).attempt(), 1);
  EXPECT_EQ(Job(found).launch().handle(), "job-1/1");
  EXPECT_EQ(State(lost), JobState::STARTING);
  EXPECT_EQ(Job(lost).attempt(), 2);
  EXPECT_EQ(Job(lost).restarts(), 0);
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
  EXPECT_THAT(CheckpointSteps(id), ElementsAre(20, 30));

  cluster_.End(id, 1, std::nullopt);
  Ticks(2);
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
  Start();  // by another coordinator, too
  EXPECT_THAT(CheckpointSteps(id), ElementsAre(10, 30, 40));
  EXPECT_TRUE(std::filesystem::exists(directory_.path() / "10"));

  EXPECT_FALSE(Pin(id, 40, true));
  EXPECT_FALSE(Pin(id, 40, false));  // one of the latest
  EXPECT_TRUE(Pin(id, 10, false));
  EXPECT_THAT(CheckpointSteps(id), ElementsAre(30, 40));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() / "10"));
  try {
    Pin(id, 10, true);
    FAIL() << "there is no such checkpoint";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("it has 30, 40"));
  }
}

// What is watched from outside: the last point of every metric, as it was reported last, and after
// a restart of the coordinator as it is stored. Jobs that wait are only counted.
TEST_F(CoordinatorTest, ASnapshotHasTheLastPointsOfJobsThatRun) {
  const std::string id = RunningJob();
  Submit(/*workers=*/2);
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
  Start();
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
  coordinator_->WorkerReport(Report(id, 1, WorkerOutcome::DONE));
  EXPECT_EQ(CodeOf([&] { Cancel(id); }), ErrorCode::kFailedPrecondition);
  PauseJobRequest pause;
  pause.set_job_id(id);
  EXPECT_EQ(CodeOf([&] { coordinator_->Pause(pause); }), ErrorCode::kFailedPrecondition);
}

TEST_F(CoordinatorTest, ALogIsReadInPieces) {
  const std::string id = Submit();
  coordinator_->Tick();
  const std::filesystem::path directory = Job(id).launch().directory();
  MakeDirectories(directory);
  WriteFileAtomically(directory / kLogFile, "one\ntwo\n");
  GetLogsRequest request;
  request.set_job_id(id);
  EXPECT_EQ(coordinator_->GetLogs(request).next_offset(), 8);
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
