#pragma once
// The coordinator's mind: jobs, their attempts, what the workers report. No sockets, no pages.

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/store/run_store.h"
#include "coordinator/launch/launcher.h"
#include "coordinator/snapshot.h"
#include "proto/coordinator.pb.h"
#include "proto/rpc.pb.h"

namespace fr {

// Every method is thread-safe, and durable before it returns: whatever kills the process, the next
// one goes on from there. Unknown jobs throw Error(kNotFound); what the store throws passes.
class Coordinator {
 public:
  // `state_dir`/store is opened, and attempts that an earlier coordinator started are taken over.
  // `launcher` starts the workers. Throws what RunStore's constructor throws.
  Coordinator(const CoordinatorSpec& spec, Launcher launcher);

  // Where workers reach the RPC, and people the dashboard. Set once, before the first Tick().
  void SetAddresses(std::string rpc, std::string http);

  // One look at everything that runs and waits: reaps attempts that ended, restarts what died or
  // stalled, ends what was cancelled, starts what fits. To be called a few times a second.
  void Tick();

  PingReply Ping();

  // Of people. Submit throws Error(kInvalidArgument) for a spec without name or data; Cancel
  // Error(kFailedPrecondition) for a job that has ended otherwise.
  SubmitJobReply Submit(const SubmitJobRequest& request);
  ListJobsReply List(const ListJobsRequest& request);
  GetJobReply Get(const GetJobRequest& request);
  CancelJobReply Cancel(const CancelJobRequest& request);
  GetMetricsReply GetMetrics(const GetMetricsRequest& request);
  GetLogsReply GetLogs(const GetLogsRequest& request);
  ListCheckpointsReply ListCheckpoints(const ListCheckpointsRequest& request);
  GetShardsReply GetShards(const GetShardsRequest& request);
  // Error(kNotFound) for a step of which there is no checkpoint, naming those there are.
  PinCheckpointReply PinCheckpoint(const PinCheckpointRequest& request);
  ListNodesReply ListNodes(const ListNodesRequest& request);

  // Everything at once, without a look at more of the database than the last points of jobs that
  // were not asked about before.
  Snapshot TakeSnapshot();

  // Of workers. A worker of another attempt than the job's present one is refused with
  // Error(kFailedPrecondition) and must end.
  GetAssignmentReply GetAssignment(const GetAssignmentRequest& request);
  RequestShardPlanReply RequestShardPlan(const RequestShardPlanRequest& request);
  WorkerReportReply WorkerReport(const WorkerReportRequest& request);

 private:
  // A job, and what need not survive a restart.
  struct Job {
    JobRecord record;
    std::int64_t transitions = 0;    // stored so far
    std::int64_t last_step_ms = 0;   // steady clock: the attempt's start or its last new step
    std::int64_t stop_asked_ms = 0;  // steady clock: when its lingering attempt was seen; 0: not
    // The last reported point of every metric, by name; absent until a snapshot needs it.
    std::optional<std::map<std::string, MetricPoint>> latest;
  };

  // A change of one job, prepared beside it; Commit makes it durable and then real.
  struct Change {
    explicit Change(Job& the_job) : job(the_job), record(the_job.record) {}
    void To(JobState state, const std::string& reason);

    Job& job;
    JobRecord record;
    StoreBatch batch;
    std::vector<Transition> transitions;
  };

  void TakeOver();
  Job& Find(const std::string& job_id);
  Job& FindAttempt(const std::string& job_id, int attempt);
  void Commit(Change change);
  void FillLatest(Job& job);

  // Tick's parts.
  void LookAfterAttempt(Job& job);
  void EndLingeringAttempt(Job& job);
  void RestartOrFail(Change* change, const std::string& cause);
  void StartWhatFits();
  void StartAttempt(Job& job, const std::vector<NodeSlots>& slots);
  std::map<std::string, NodeStatus> NodesInUse() const;

  const CoordinatorSpec spec_;
  const Launcher launcher_;
  const std::int64_t started_ms_;
  RunStore store_;

  std::mutex mutex_;  // of all below
  std::string rpc_address_;
  std::string http_address_;
  std::map<std::int64_t, Job> jobs_;  // by number
};

}  // namespace fr
