#pragma once
// The subcommands of frctl: each asks the coordinator and prints to standard output; what was done
// is said on standard error. All throw what JobClient's methods throw.

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/cli/frctl_output.h"
#include "proto/record.pb.h"

namespace fr {

class JobClient;

struct JobListOptions {
  std::string user;              // only this one's; empty: anybody's
  std::vector<JobState> states;  // only in one of these; empty: any
  int limit = 30;
};
void PrintJobs(JobClient& client, const JobListOptions& options, OutputFormat format);
void PrintJob(JobClient& client, const std::string& job_id, OutputFormat format);
void CancelJob(JobClient& client, const std::string& job_id, const std::string& reason);
void PauseJob(JobClient& client, const std::string& job_id, const std::string& reason);
void ResumeJob(JobClient& client, const std::string& job_id);

void PrintCheckpoints(JobClient& client, const std::string& job_id, OutputFormat format);
// Pins or unpins the checkpoint of `step` ("2000" or "latest"), and says on standard error what
// becomes of it.
void PinCheckpoint(JobClient& client, const std::string& job_id, const std::string& step,
                   bool pinned);
void PrintShards(JobClient& client, const std::string& job_id, OutputFormat format);

void PrintNodes(JobClient& client, OutputFormat format);
void PrintUsers(JobClient& client, OutputFormat format);
void DrainNode(JobClient& client, const std::string& node, const std::string& reason, bool evict);
void UndrainNode(JobClient& client, const std::string& node);

// Without `names` the last value of every metric (all points in JSON and CSV); with names all their
// points with a step greater than `after_step`. Throws Error(kNotFound) for a name that the job
// does not have, naming those it has.
void PrintMetrics(JobClient& client, const std::string& job_id,
                  const std::vector<std::string>& names, std::int64_t after_step,
                  OutputFormat format);

struct LogOptions {
  int attempt = 0;              // 0: the latest
  std::int64_t tail_bytes = 0;  // 0: from the beginning
  bool follow = false;          // until the job has ended
};

// The workers' log, as it is. While following, a coordinator that does not answer is waited for;
// a new attempt's log is followed in its turn unless an attempt was named.
void PrintLogs(JobClient& client, const std::string& job_id, const LogOptions& options);

}  // namespace fr
