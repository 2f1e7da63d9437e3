#pragma once
// The subcommands of frctl: each asks the coordinator and prints to standard output.

#include <cstdint>
#include <string>
#include <vector>

namespace fr {

class JobClient;

enum class OutputFormat { kTable, kJson, kCsv };

void PrintJobs(JobClient& client, int limit, OutputFormat format);
void PrintJob(JobClient& client, const std::string& job_id, OutputFormat format);
void PrintCheckpoints(JobClient& client, const std::string& job_id, OutputFormat format);
// Pins or unpins the checkpoint of `step` ("2000" or "latest"), and says on standard error what
// becomes of it.
void PinCheckpoint(JobClient& client, const std::string& job_id, const std::string& step,
                   bool pinned);
void PrintShards(JobClient& client, const std::string& job_id, OutputFormat format);
void PrintNodes(JobClient& client, OutputFormat format);

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
