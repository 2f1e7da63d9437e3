#pragma once
// What the commands ask of a coordinator: one method a request, with the job named as people do.

#include <cstdint>
#include <string>
#include <vector>

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
  std::string Submit(const JobSpec& spec, const std::string& yaml);

  // "job-12" for "job-12" and "12"; for "latest" the job submitted last. Throws Error(kNotFound)
  // for "latest" when there are no jobs, Error(kInvalidArgument) for anything else.
  std::string ResolveJob(const std::string& name);

  ListJobsReply Jobs();
  GetJobReply Job(const std::string& job_id);
  void Cancel(const std::string& job_id, const std::string& reason);
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

// "ada@lab", for the record of who submitted or cancelled.
std::string UserAtHost();

}  // namespace fr
