#pragma once
// A coordinator whose launcher has no processes; the tests speak in the workers' place.

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "coordinator/coordinator.h"
#include "tests/coordinator/fake_launcher.h"

namespace fr {

inline std::optional<ErrorCode> CodeOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

class CoordinatorTest : public testing::Test {
 protected:
  // One node, localhost, with two slots.
  CoordinatorTest() {
    spec_.set_restart_backoff_ms(0);
    spec_.set_kill_grace_ms(0);
    spec_.mutable_scheduler()->set_min_run_time_ms(0);
    AddNode("localhost", 2);
    Start();
  }

  void AddNode(const std::string& name, int slots) {
    NodeSpec* node = spec_.add_nodes();
    node->set_name(name);
    node->set_slots(slots);
    NodeReport& report = cluster_.nodes.emplace_back();
    report.name = name;
    report.liveness = NodeStatus::UP;
  }

  // (Re)starts it on the same state, as after a kill.
  void Start() {
    coordinator_.reset();
    spec_.set_state_dir((directory_.path() / "state").string());
    coordinator_ = std::make_unique<Coordinator>(spec_, std::make_unique<FakeLauncher>(cluster_));
    coordinator_->SetAddresses("tcp://127.0.0.1:1", "127.0.0.1:2");
  }

  // What a coordinator leaves that is killed while it starts attempts: no answer of the launcher.
  void ForgetLaunch(const std::vector<std::int64_t>& jobs) {
    RunStore store(std::filesystem::path(spec_.state_dir()) / "store");
    for (const std::int64_t number : jobs) {
      JobRecord record = store.Job(number).value();
      record.mutable_launch()->clear_handle();
      StoreBatch batch;
      batch.PutJob(record);
      store.Commit(std::move(batch));
    }
  }

  static SubmitJobRequest Request(int workers = 1, int priority = 50) {
    SubmitJobRequest request;
    request.mutable_spec()->set_name("test");
    request.mutable_spec()->set_priority(priority);
    request.mutable_spec()->mutable_data()->set_train("/data");
    request.mutable_spec()->mutable_resources()->set_workers(workers);
    request.mutable_spec()->mutable_restart()->set_max_restarts(1);
    request.mutable_spec()->mutable_checkpoint()->set_keep(2);
    return request;
  }
  std::string Submit(int workers = 1, int priority = 50) {
    return coordinator_->Submit(Request(workers, priority)).job_id();
  }

  GetJobReply Get(const std::string& id) {
    GetJobRequest request;
    request.set_job_id(id);
    return coordinator_->Get(request);
  }
  JobRecord Job(const std::string& id) { return Get(id).job(); }
  JobState State(const std::string& id) { return Job(id).state(); }
  // Every state that it has had.
  std::vector<JobState> History(const std::string& id) {
    std::vector<JobState> states;
    const GetJobReply reply = Get(id);
    for (const Transition& transition : reply.transitions()) states.push_back(transition.to());
    return states;
  }
  NodeStatus Node(int index = 0) { return coordinator_->ListNodes({}).nodes(index); }

  // A look after something outside has changed: one tick sees it, the next deals with it.
  void Ticks(int count = 3) {
    for (int i = 0; i < count; ++i) coordinator_->Tick();
  }

  GetAssignmentReply Begin(const std::string& id, int attempt) {
    GetAssignmentRequest request;
    request.set_job_id(id);
    request.set_attempt(attempt);
    request.set_world_size(1);
    return coordinator_->GetAssignment(request);
  }
  std::string RunningJob(int workers = 1, int priority = 50) {
    const std::string id = Submit(workers, priority);
    coordinator_->Tick();
    Begin(id, 1);
    return id;
  }

  static WorkerReportRequest Report(const std::string& id, int attempt,
                                    WorkerOutcome outcome = WorkerOutcome::WORKING) {
    WorkerReportRequest request;
    request.set_job_id(id);
    request.set_attempt(attempt);
    request.set_outcome(outcome);
    return request;
  }
  static void Point(WorkerReportRequest* report, std::int64_t step, double value) {
    MetricPoint* point = report->add_points();
    point->set_name("train/loss");
    point->set_step(step);
    point->set_value(value);
  }
  // The worker's last words, and its end.
  void Leave(const std::string& id, int attempt, WorkerOutcome outcome) {
    coordinator_->WorkerReport(Report(id, attempt, outcome));
    cluster_.End(id, attempt);
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

  void Cancel(const std::string& id) {
    CancelJobRequest cancel;
    cancel.set_job_id(id);
    coordinator_->Cancel(cancel);
  }

  TemporaryDirectory directory_;
  CoordinatorSpec spec_;
  FakeCluster cluster_;
  std::unique_ptr<Coordinator> coordinator_;
};

}  // namespace fr
