#pragma once
// What the commands ask of a coordinator: one method a request, with the job named as people do.

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "common/config/job_config.h"
#include "common/plan/job_plan.h"
#include "common/rpc/client.h"
#include "proto/rpc.pb.h"

namespace fr {

// Not thread-safe. Every method throws what RpcClient::Call throws.
class JobClient {
 public:
  // `address`: as the flag says, may be empty (see CoordinatorAddress).
  JobClient(const std::string& address, std::int64_t timeout_ms);

  // Submits, and repeats with the same key while no reply comes, until `timeout_ms` have passed:
  // however often it arrives, it is one job. Returns its id.
  // `facts`: what was read of its training set.
  std::string Submit(const JobConfig& job, const DataFacts& facts);

  // "job-12" for "job-12" and "12"; for "latest" the job submitted last. Throws Error(kNotFound)
  // for "latest" when there are no jobs, Error(kInvalidArgument) for anything else.
  std::string ResolveJob(const std::string& name);

  // Page by page, up to `request.limit()` jobs; `more` says whether there are earlier ones still.
  ListJobsReply Jobs(const ListJobsRequest& request);
  GetJobReply Job(const std::string& job_id);
  void Cancel(const std::string& job_id, const std::string& reason);
  void Pause(const std::string& job_id, const std::string& reason);
  void Resume(const std::string& job_id);
  GetMetricsReply Metrics(const std::string& job_id, const std::vector<std::string>& names,
                          std::int64_t after_step = -1);
  GetLogsReply Logs(const GetLogsRequest& request);
  ListCheckpointsReply Checkpoints(const std::string& job_id);
  // "2000", or "latest". Throws Error(kNotFound) for "latest" when there is no checkpoint,
  // Error(kInvalidArgument) for anything else.
  std::int64_t ResolveStep(const std::string& job_id, const std::string& step);
  // Whether the checkpoint was retired, now that it is not pinned.
  bool Pin(const std::string& job_id, std::int64_t step, bool pinned);
  GetShardsReply Shards(const std::string& job_id);
  ListNodesReply Nodes();
  ListUsersReply Users();
  DrainNodeReply Drain(const std::string& node, const std::string& reason, bool evict);
  void Undrain(const std::string& node);

  // The latest accuracy of each validation set of the job.
  std::vector<ValidationResult> LatestAccuraciesOf(const JobRecord& job);

  // Whether the coordinator has ever answered.
  bool reached() const { return reached_; }

 private:
  Reply Call(Request request, std::int64_t timeout_ms);

  RpcClient client_;
  std::int64_t timeout_ms_;
  bool reached_ = false;
};

// What a command returns for an error of the coordinator's: as ExitCodeFor, but 3 also for a
// request that is right and that it refuses for now (a user's limit, a reply that is too large).
int ExitCodeOfRefusal(ErrorCode code);

// "ada@lab", for the record of who submitted or cancelled.
std::string UserAtHost();

}  // namespace fr
