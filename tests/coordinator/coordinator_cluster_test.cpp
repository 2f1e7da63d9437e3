// Making room, nodes that go and come, users and their limits.

#include <gmock/gmock.h>

#include "tests/coordinator/coordinator_fixture.h"

namespace fr {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class CoordinatorClusterTest : public CoordinatorTest {
 protected:
  bool YieldAsked(const std::string& id, int attempt) {
    return coordinator_->WorkerReport(Report(id, attempt)).yield();
  }
  void Pause(const std::string& id) {
    PauseJobRequest request;
    request.set_job_id(id);
    coordinator_->Pause(request);
  }
  void Resume(const std::string& id) {
    ResumeJobRequest request;
    request.set_job_id(id);
    coordinator_->Resume(request);
  }
  void Drain(const std::string& node, bool evict = false) {
    DrainNodeRequest request;
    request.set_node(node);
    request.set_reason("new disks");
    request.set_evict(evict);
    coordinator_->DrainNode(request);
  }
  void Undrain(const std::string& node) {
    UndrainNodeRequest request;
    request.set_node(node);
    coordinator_->UndrainNode(request);
  }
  std::string SubmitElastic(int min_workers, int workers) {
    SubmitJobRequest request = Request(workers);
    request.mutable_spec()->mutable_resources()->set_min_workers(min_workers);
    return coordinator_->Submit(request).job_id();
  }
  int Workers(const std::string& id) {
    int workers = 0;
    const JobRecord job = Job(id);
    for (const NodeSlots& slots : job.launch().slots()) workers += slots.slots();
    return workers;
  }
};

// Paused, a job stops at a checkpoint and keeps nothing but its files; resumed, it waits again.
TEST_F(CoordinatorClusterTest, APausedJobStopsAtACheckpoint) {
  const std::string id = RunningJob();
  EXPECT_FALSE(YieldAsked(id, 1));
  Pause(id);
  Pause(id);  // said twice, it is the same
  EXPECT_EQ(State(id), JobState::RUNNING);
  EXPECT_THAT(Job(id).reason(), HasSubstr("asked to stop at a checkpoint"));
  Start();  // a new coordinator still wants it
  EXPECT_TRUE(YieldAsked(id, 1));
  CommitCheckpoint(id, 1, 7);
  const WorkerReportRequest last = Report(id, 1, WorkerOutcome::YIELDED);
  coordinator_->WorkerReport(last);
  EXPECT_EQ(State(id), JobState::PAUSED);
  EXPECT_NO_THROW(coordinator_->WorkerReport(last));  // its reply was lost
  cluster_.End(id, 1);
  Ticks();
  EXPECT_EQ(State(id), JobState::PAUSED);
  EXPECT_EQ(Node().slots_used(), 0);

  Resume(id);
  coordinator_->Tick();
  EXPECT_EQ(Begin(id, 2).resume_from(0).step(), 7);
  EXPECT_EQ(Job(id).restarts(), 0);
}

// Resumed before it has stopped, a job just goes on.
TEST_F(CoordinatorClusterTest, APauseCanBeTakenBack) {
  const std::string id = RunningJob();
  Pause(id);
  Resume(id);
  EXPECT_FALSE(YieldAsked(id, 1));
  EXPECT_EQ(State(id), JobState::RUNNING);
  // One that waits is paused and resumed at once.
  const std::string waiting = Submit(2);
  Pause(waiting);
  EXPECT_EQ(State(waiting), JobState::PAUSED);
  Ticks();
  EXPECT_EQ(State(waiting), JobState::PAUSED);
  Resume(waiting);
  EXPECT_EQ(State(waiting), JobState::PENDING);
}

// A job that is asked and does not stop is ended; it goes on later from its last checkpoint.
TEST_F(CoordinatorClusterTest, WhoDoesNotStopIsEnded) {
  spec_.mutable_scheduler()->set_yield_timeout_ms(-1);
  Start();
  const std::string id = RunningJob();
  Pause(id);
  coordinator_->Tick();
  EXPECT_EQ(State(id), JobState::PAUSED);
  EXPECT_THAT(Job(id).reason(), HasSubstr("made no checkpoint"));
  Ticks(2);
  EXPECT_EQ(cluster_.Of(id, 1).asked, 1);
  EXPECT_EQ(Node().slots_used(), 0);
}

// A job of much higher priority stops another at a checkpoint, runs, and the other goes on.
TEST_F(CoordinatorClusterTest, AnUrgentJobGetsItsSlots) {
  const std::string victim = RunningJob(2, 50);
  const std::string urgent = Submit(2, 90);
  coordinator_->Tick();
  EXPECT_TRUE(YieldAsked(victim, 1));
  CommitCheckpoint(victim, 1, 5);
  Leave(victim, 1, WorkerOutcome::YIELDED);
  Ticks(2);
  EXPECT_EQ(State(urgent), JobState::STARTING);
  EXPECT_EQ(State(victim), JobState::PENDING);
  EXPECT_THAT(History(victim), ElementsAre(JobState::PENDING, JobState::STARTING, JobState::RUNNING,
                                           JobState::PREEMPTED, JobState::PENDING));
  EXPECT_EQ(Job(victim).preemptions(), 1);
  EXPECT_EQ(Job(victim).restarts(), 0);
  Begin(urgent, 1);
  Leave(urgent, 1, WorkerOutcome::DONE);
  Ticks(2);
  EXPECT_EQ(Begin(victim, 2).resume_from(0).step(), 5);
}

// A node that dies takes its attempt with it, which costs the job no restart; an elastic job goes
// on with the workers that are left, and grows again when the node is back.
TEST_F(CoordinatorClusterTest, AnElasticJobOutlivesANode) {
  AddNode("node2", 2);
  Start();
  const std::string id = SubmitElastic(2, 4);
  coordinator_->Tick();
  EXPECT_EQ(Workers(id), 4);
  Begin(id, 1);
  CommitCheckpoint(id, 1, 10);

  cluster_.SetNode("node2", NodeStatus::DOWN, "no answer for 10 s");
  Ticks(3);
  EXPECT_EQ(cluster_.Of(id, 1).asked, 1);
  EXPECT_EQ(Workers(id), 2);
  EXPECT_EQ(Job(id).restarts(), 0);
  EXPECT_THAT(Get(id).transitions(3).reason(), HasSubstr("node node2 is down: no answer for 10 s"));
  EXPECT_EQ(Begin(id, 2).resume_from(0).step(), 10);

  cluster_.SetNode("node2", NodeStatus::UP);
  Ticks(2);
  EXPECT_TRUE(YieldAsked(id, 2));
  CommitCheckpoint(id, 2, 20);
  Leave(id, 2, WorkerOutcome::YIELDED);
  Ticks(2);
  EXPECT_EQ(Workers(id), 4);
  EXPECT_EQ(Begin(id, 3).resume_from(0).step(), 20);
}

// A drained node gets no new attempts; with evict, those that run there move.
TEST_F(CoordinatorClusterTest, ADrainedNodeEmpties) {
  AddNode("node2", 2);
  Start();
  const std::string id = RunningJob();
  const std::string node = Job(id).launch().slots(0).node();
  Drain(node);
  Start();  // remembered
  EXPECT_EQ(State(id), JobState::RUNNING);
  EXPECT_FALSE(YieldAsked(id, 1));
  const std::string other = Submit();
  coordinator_->Tick();
  EXPECT_NE(Job(other).launch().slots(0).node(), node);

  Drain(node, /*evict=*/true);
  EXPECT_TRUE(YieldAsked(id, 1));
  Leave(id, 1, WorkerOutcome::YIELDED);
  Ticks(2);
  EXPECT_EQ(State(id), JobState::STARTING);
  EXPECT_NE(Job(id).launch().slots(0).node(), node);
  Undrain(node);
  EXPECT_FALSE(Node().record().drained());
  EXPECT_EQ(CodeOf([&] { Drain("nodeX"); }), ErrorCode::kNotFound);
}

// Workers of two jobs fail on one node, three times: it gets no more of them until it is undrained.
TEST_F(CoordinatorClusterTest, ANodeThatFailsAgainAndAgainIsCordoned) {
  const auto fail = [&](const std::string& id, int attempt) {
    AttemptStatus& status = cluster_.Of(id, attempt).status;
    status = {AttemptPhase::kEnded, 139, "rank 0 exited on signal 11", {"localhost"}, false};
    Ticks(2);
  };
  const std::string first = RunningJob();
  const std::string second = RunningJob();
  fail(first, 1);
  fail(first, 2);
  EXPECT_FALSE(Node().record().cordoned());
  fail(second, 1);
  EXPECT_TRUE(Node().record().cordoned());
  EXPECT_THAT(Node().record().cordon_reason(), HasSubstr("exited on signal 11"));
  EXPECT_EQ(State(second), JobState::RESTARTING);
  Start();
  Ticks();
  EXPECT_EQ(State(second), JobState::RESTARTING);
  Undrain("localhost");
  coordinator_->Tick();
  EXPECT_EQ(State(second), JobState::STARTING);
}

// A launcher that is away, or a full disk, costs a job nothing; what it refuses counts as a
// restart.
TEST_F(CoordinatorClusterTest, AClusterThatIsAwayIsAskedAgain) {
  for (const Error& failure : {Error(ErrorCode::kUnavailable, "Slurm does not answer"),
                               Error(ErrorCode::kResourceExhausted, "no space left")}) {
    cluster_.start_failure = failure;
    const std::string id = Submit();
    coordinator_->Tick();
    EXPECT_EQ(State(id), JobState::RESTARTING);
    EXPECT_EQ(Job(id).restarts(), 0);
    EXPECT_GT(Job(id).not_before_ms(), 0);
  }
  cluster_.start_failure = Error(ErrorCode::kIo, "mpirun: no such file");
  const std::string other = Submit();
  Ticks(2);
  EXPECT_EQ(State(other), JobState::FAILED);
}

// In the cluster's own queue a job does not stall, and shows what it waits for.
TEST_F(CoordinatorClusterTest, AClustersOwnQueueIsNoStall) {
  SubmitJobRequest request = Request();
  request.mutable_spec()->mutable_restart()->set_stall_timeout_ms(0);
  const std::string id = coordinator_->Submit(request).job_id();
  coordinator_->Tick();
  cluster_.Of(id, 1).status = {AttemptPhase::kQueued, {}, "Slurm: Priority", {}, false};
  Ticks();
  EXPECT_EQ(Job(id).attempt(), 1);
  EXPECT_THAT(Job(id).reason(), HasSubstr("Slurm: Priority"));
}

// A job that no node could ever take is refused when it comes, with the numbers.
TEST_F(CoordinatorClusterTest, WhatCanNeverFitIsRefused) {
  EXPECT_EQ(CodeOf([&] { Submit(3); }), ErrorCode::kInvalidArgument);
  spec_.mutable_nodes(0)->set_memory_gib(1);
  Start();
  try {
    Submit();  // r50 with a batch of 128 needs more
    FAIL() << "it does not fit";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("GiB"));
  }
  EXPECT_EQ(coordinator_->List({}).jobs_size(), 0);
}

// Each user may have so many jobs, and so many workers at a time; what they use is remembered.
TEST_F(CoordinatorClusterTest, UsersHaveLimits) {
  UserSpec* ada = spec_.add_users();
  ada->set_name("ada");
  ada->mutable_limits()->set_max_jobs(2);
  ada->mutable_limits()->set_max_workers(1);
  Start();
  SubmitJobRequest request = Request();
  request.set_submitter("ada@lab");
  const std::string first = coordinator_->Submit(request).job_id();
  const std::string second = coordinator_->Submit(request).job_id();
  EXPECT_EQ(CodeOf([&] { coordinator_->Submit(request); }), ErrorCode::kResourceExhausted);
  Submit();  // of somebody else
  coordinator_->Tick();
  EXPECT_EQ(State(first), JobState::STARTING);
  EXPECT_EQ(State(second), JobState::PENDING);
  EXPECT_THAT(Job(second).reason(), HasSubstr("ada"));

  ListJobsRequest list;
  list.set_owner("ada");
  EXPECT_EQ(coordinator_->List(list).jobs_size(), 2);
  list.add_states(JobState::PENDING);
  EXPECT_EQ(coordinator_->List(list).jobs(0).id(), second);

  const ListUsersReply users = coordinator_->ListUsers({});
  EXPECT_EQ(users.users(0).name(), "ada");
  EXPECT_EQ(users.users(0).workers(), 1);
  EXPECT_EQ(users.users(0).jobs_waiting(), 1);
  EXPECT_EQ(users.users(0).max_jobs(), 2);
}

}  // namespace
}  // namespace fr
