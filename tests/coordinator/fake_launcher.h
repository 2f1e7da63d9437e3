#pragma once
// A launcher without processes: the test decides how attempts and nodes stand.

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "coordinator/launch/launcher.h"

namespace fr {

// What has been started, asked to stop, or is to fail; shared by launcher and test, and outlives a
// coordinator, as processes do.
struct FakeCluster {
  struct Attempt {
    LaunchRequest request;
    AttemptStatus status;
    int asked = 0;
    int killed = 0;
  };

  static std::string Name(const std::string& job_id, int attempt) {
    return job_id + "/" + std::to_string(attempt);
  }
  Attempt& Of(const std::string& job_id, int attempt) { return attempts.at(Name(job_id, attempt)); }
  void End(const std::string& job_id, int attempt, std::optional<int> exit_status = 0) {
    Of(job_id, attempt).status = {AttemptPhase::kEnded, exit_status, "", {}, false};
  }
  void SetNode(const std::string& name, NodeStatus::Liveness liveness, std::string reason = "") {
    for (NodeReport& node : nodes) {
      if (node.name != name) continue;
      node.liveness = liveness;
      node.reason = std::move(reason);
    }
  }

  std::map<std::string, Attempt> attempts;  // by Name
  std::vector<NodeReport> nodes;
  std::optional<Error> start_failure;
  bool ends_when_asked = true;
};

class FakeLauncher : public Launcher {
 public:
  explicit FakeLauncher(FakeCluster& cluster) : cluster_(cluster) {}

  LaunchRecord Start(const LaunchRequest& request) override {
    if (cluster_.start_failure) throw Error(*cluster_.start_failure);
    const std::string name = FakeCluster::Name(request.job_id, request.attempt);
    cluster_.attempts[name].request = request;
    cluster_.attempts[name].status.phase = AttemptPhase::kRunning;
    return RecordOf(request);
  }
  std::optional<LaunchRecord> Recover(const LaunchRequest& request) override {
    if (!cluster_.attempts.contains(FakeCluster::Name(request.job_id, request.attempt))) {
      return std::nullopt;
    }
    return RecordOf(request);
  }
  std::vector<AttemptStatus> Look(const std::vector<LaunchRecord>& records) override {
    std::vector<AttemptStatus> statuses;
    statuses.reserve(records.size());
    for (const LaunchRecord& record : records) {
      statuses.push_back(cluster_.attempts.at(record.handle()).status);
    }
    return statuses;
  }
  void Stop(const LaunchRecord& record, StopMode mode) override {
    FakeCluster::Attempt& attempt = cluster_.attempts.at(record.handle());
    ++(mode == StopMode::kKill ? attempt.killed : attempt.asked);
    if (mode == StopMode::kKill || cluster_.ends_when_asked) {
      attempt.status = {AttemptPhase::kEnded, 143, "", {}, false};
    }
  }
  std::vector<NodeReport> Nodes() override {
    for (NodeReport& node : cluster_.nodes) {
      if (node.liveness == NodeStatus::UP) node.seen_ms = UnixMillis();
    }
    return cluster_.nodes;
  }

 private:
  static LaunchRecord RecordOf(const LaunchRequest& request) {
    LaunchRecord record;
    record.set_handle(FakeCluster::Name(request.job_id, request.attempt));
    return record;
  }

  FakeCluster& cluster_;
};

}  // namespace fr
