#pragma once
// The coordinator's mind: jobs, their attempts, nodes and users, what the workers report. No
// sockets, no pages.
//
//   coordinator.cpp           what people ask
//   coordinator_workers.cpp   what workers ask and say
//   coordinator_attempts.cpp  what becomes of attempts: restarts, stops, lost nodes
//   coordinator_queue.cpp     what starts, and what makes room

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/store/run_store.h"
#include "coordinator/jobs/job_table.h"
#include "coordinator/launch/launcher.h"
#include "coordinator/nodes/node_book.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/snapshot.h"
#include "coordinator/users/user_book.h"
#include "proto/coordinator.pb.h"
#include "proto/rpc.pb.h"

namespace fr {

// Every method is thread-safe, and durable before it returns: whatever kills the process, the next
// one goes on from there. Unknown jobs and nodes throw Error(kNotFound); what the store throws
// passes.
class Coordinator {
 public:
  // `state_dir`/store is opened, and attempts that an earlier coordinator started are taken over.
  // `launcher` starts the workers. Throws what RunStore's constructor throws.
  Coordinator(const CoordinatorSpec& spec, std::unique_ptr<Launcher> launcher);

  // Where workers reach the RPC, and people the dashboard. Set once, before the first Tick().
  void SetAddresses(std::string rpc, std::string http);

  // One look at everything that runs and waits: reaps attempts that ended, restarts what died or
  // stalled, ends what was cancelled, starts what fits. To be called a few times a second, by one
  // thread; it takes as long as the launcher takes to answer, and holds nobody up meanwhile.
  void Tick();

  PingReply Ping();

  // Of people. Submit throws Error(kInvalidArgument) for a spec without name or data, or one that
  // no node could ever take, with the numbers; Error(kResourceExhausted) for one more than its
  // owner may have. The others: Error(kFailedPrecondition) for a job that has ended.
  SubmitJobReply Submit(const SubmitJobRequest& request);
  ListJobsReply List(const ListJobsRequest& request);
  GetJobReply Get(const GetJobRequest& request);
  CancelJobReply Cancel(const CancelJobRequest& request);
  PauseJobReply Pause(const PauseJobRequest& request);
  ResumeJobReply Resume(const ResumeJobRequest& request);
  GetMetricsReply GetMetrics(const GetMetricsRequest& request);
  GetLogsReply GetLogs(const GetLogsRequest& request);
  ListCheckpointsReply ListCheckpoints(const ListCheckpointsRequest& request);
  GetShardsReply GetShards(const GetShardsRequest& request);
  // Error(kNotFound) for a step of which there is no checkpoint, naming those there are.
  PinCheckpointReply PinCheckpoint(const PinCheckpointRequest& request);
  ListNodesReply ListNodes(const ListNodesRequest& request);
  DrainNodeReply DrainNode(const DrainNodeRequest& request);
  UndrainNodeReply UndrainNode(const UndrainNodeRequest& request);
  ListUsersReply ListUsers(const ListUsersRequest& request);

  // Everything at once, without a look at more of the database than the last points of jobs that
  // were not asked about before.
  Snapshot TakeSnapshot();

  // Of workers. A worker of another attempt than the job's present one is refused with
  // Error(kFailedPrecondition) and must end.
  GetAssignmentReply GetAssignment(const GetAssignmentRequest& request);
  RequestShardPlanReply RequestShardPlan(const RequestShardPlanRequest& request);
  WorkerReportReply WorkerReport(const WorkerReportRequest& request);

 private:
  // What a look at the attempts leads to; it is carried out once the changes are durable.
  struct LookOutcome {
    ChangeSet changes;
    std::vector<NodeRecord> nodes;
    std::vector<UserRecord> users;
    std::vector<std::pair<LaunchRecord, StopMode>> stops;
  };

  std::vector<NodeStatus> NodesInUse() const;
  std::vector<UserStatus> UsersInUse(std::int64_t now_ms) const;
  // The job's number, or the one that an earlier submission with the same key was given.
  std::pair<std::int64_t, bool> AdmitSubmission(const SubmitJobRequest& request,
                                                const Demand& demand, const std::string& owner);
  void ExplainWaiting(JobRecord* record) const;
  void FillLatest(Job& job);
  void AddTargets(const JobRecord& record, GetShardsReply* reply);
  void AskToYield(ChangeSet* changes, Job& job, Yield::Cause cause, const std::string& reason);
  void Yielded(ChangeSet* changes, Job& job, const std::string& how);

  // Tick's parts. Those that ask the launcher hold no lock meanwhile.
  void RecoverStarts();
  void SettleStart(std::int64_t number, int attempt, const std::optional<LaunchRecord>& found);
  void LookAtAttempts();
  void JudgeAttempt(Job& job, const AttemptStatus& status, LookOutcome* outcome);
  void JudgeRunning(Job& job, const AttemptStatus& status, LookOutcome* outcome);
  void JudgeEnded(Job& job, const AttemptStatus& status, LookOutcome* outcome);
  void EndLingering(Job& job, LookOutcome* outcome);
  void FreeSlots(Job& job, LookOutcome* outcome);
  void Commit(LookOutcome* outcome);
  void LoseAttempt(ChangeSet* changes, Job& job, const std::string& cause, bool nodes_lost);
  void RestartOrFail(ChangeSet* changes, Job& job, const std::string& cause);
  void RestartUncounted(ChangeSet* changes, Job& job, const std::string& cause,
                        std::int64_t delay_ms);
  void TakeStart(ChangeSet* changes, Job& job, const StartDecision& start);
  void RunQueue();
  ClusterView MakeView();
  LaunchRequest RequestOf(const Job& job) const;
  void StartAttempt(std::int64_t number, const LaunchRequest& request);

  const CoordinatorSpec spec_;
  const std::unique_ptr<Launcher> launcher_;  // of the thread that ticks
  const std::int64_t started_ms_;
  RunStore store_;

  std::mutex mutex_;  // of all below
  std::string rpc_address_;
  std::string http_address_;
  JobTable jobs_;
  NodeBook nodes_;
  UserBook users_;
  std::map<std::int64_t, WaitDecision> waits_;  // why the last round left a job waiting
  bool queue_changed_ = true;
  std::int64_t queue_run_ms_ = 0;  // steady clock: the last round
  // Submissions on their way to the disk: those that come at a time share one sync.
  std::map<std::string, std::int64_t> arriving_;  // by key
  std::map<std::string, int> arriving_of_owner_;
  std::condition_variable arrived_;
};

}  // namespace fr
