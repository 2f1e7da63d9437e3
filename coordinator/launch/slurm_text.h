#pragma once
// What the Slurm launcher writes for Slurm and reads from it, as text. Pure.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/launch/launcher.h"

namespace fr {

// The batch script of an attempt.
struct SlurmScript {
  std::string job_name;
  std::string title;                // for people: "attempt 2 of job-12"
  std::filesystem::path directory;  // of the attempt; absolute
  int tasks = 1;
  int cpus_per_task = 1;
  std::int64_t task_bytes = 0;           // memory of a task; 0: left to the partition's default
  bool gpus = false;                     // one for each task
  std::string partition;                 // empty: Slurm's default
  std::string account;                   // empty: Slurm's default
  std::vector<std::string> sbatch_args;  // come last, and override the above
  std::vector<std::string> command;      // runs the workers within the allocation
  // Slurm signals the tasks of srun itself; mpirun has to be told.
  bool passes_sigterm_on = false;
};

// It claims the attempt (attempt_files.h) for the job's number, runs the command, and leaves its
// exit status in the attempt's directory and to Slurm.
std::string ScriptText(const SlurmScript& script);

// "fr-job-12-2": what people see in Slurm's queue. Two coordinators may give the same name; their
// jobs differ in their directories.
std::string SlurmJobName(const std::string& job_id, int attempt);

// The job's number from what `sbatch --parsable` printed: "123\n" or "123;cluster\n". Throws
// Error(kDataLoss).
std::string ParseJobNumber(std::string_view output);

// Whether sbatch's words mean that Slurm takes no job just now, rather than never this one.
bool IsPassing(std::string_view sbatch_error);

// A job as squeue tells it.
struct SlurmJob {
  std::string number;
  std::string state;               // "RUNNING"
  std::optional<int> exit_status;  // of the batch script, if that has ended by itself
  std::string nodes;               // "n[1-2,7]"
  std::string reason;              // Slurm's word for why it waits or has failed; "None"
  std::string directory;           // the attempt's
};

// For squeue --Format, and its output in that format. Throws Error(kDataLoss) for anything that is
// not a list of jobs.
extern const char* const kSqueueFormat;
std::vector<SlurmJob> ParseJobs(std::string_view output);

// What the state means, before claim and exit status are looked at.
AttemptStatus StatusOf(const SlurmJob& job);

// A node as sinfo tells it: one for each of its partitions.
struct SlurmNode {
  std::string name;
  std::string state;         // "idle*"
  bool partition_up = true;  // takes jobs and starts them
  bool partition_default = false;
  int cpus = 0;
  std::int64_t memory_bytes = 0;
  int gpus = 0;
  std::string reason;  // why it is down or drained; "none"
};

// For sinfo --Node --format, and its output in that format. Throws Error(kDataLoss).
extern const char* const kSinfoFormat;
std::vector<SlurmNode> ParseNodes(std::string_view output);

// Whether Slurm starts tasks there, now or as soon as it has woken it up.
bool TakesTasks(const SlurmNode& node);

// GPUs in a list of generic resources: 6 of "gpu:a100:4(S:0-1),gpu:v100:2,nic:1".
int CountGpus(std::string_view gres);

// The cluster as one node of `config`: what its usable nodes have together. Nodes of the default
// partition alone, where there is one among these; those of several partitions count once. With
// `config.gpus` a slot is a GPU, else a CPU. No nodes at all: down.
NodeReport SumNodes(const NodeSpec& config, std::vector<SlurmNode> nodes);

}  // namespace fr
