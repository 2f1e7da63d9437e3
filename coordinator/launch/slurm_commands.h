#pragma once
// Slurm's commands, run one at a time.

#include <string>
#include <vector>

#include "coordinator/launch/program.h"
#include "coordinator/launch/slurm_text.h"

namespace fr {

// Each call takes as long as Slurm takes to answer, 10 s at most. Thread-safe.
class SlurmCommands {
 public:
  // `bin_dir`: of Slurm's commands; empty: they are found by PATH. Throws Error(kNotFound) when
  // they are not there.
  explicit SlurmCommands(std::string bin_dir);

  // Path or name of one of them.
  std::string PathOf(const std::string& program) const;

  // Submits a script; the job gets those variables of our environment that PassesOn. Returns the
  // job's number. Throws Error(kUnavailable | kFailedPrecondition); even then the job may have been
  // taken.
  std::string Submit(const std::string& script) const;

  // The jobs with these numbers that Slurm still knows, in any order; of all states. Throws
  // Error(kUnavailable) when Slurm does not answer, Error(kDataLoss) when its answer makes no
  // sense.
  std::vector<SlurmJob> JobsByNumber(const std::vector<std::string>& numbers) const;
  // The same for all jobs of this name, whose ever they are.
  std::vector<SlurmJob> JobsByName(const std::string& name) const;

  // Ends a job: it leaves the queue, or its processes get SIGTERM and, after Slurm's KillWait,
  // SIGKILL. Throws Error(kUnavailable).
  void Cancel(const std::string& number) const;
  // SIGTERM for the job's steps, or for its script alone. Throws Error(kUnavailable).
  void Terminate(const std::string& number, bool script) const;

  // The nodes of `partition`, or of all where it is empty. Throws as JobsByNumber.
  std::vector<SlurmNode> Nodes(const std::string& partition) const;
  // Those of `list` ("n[1-2,7]").
  std::vector<SlurmNode> NodesOf(const std::string& list) const;

 private:
  ProgramResult Run(std::vector<std::string> words) const;
  std::vector<SlurmJob> Jobs(const std::string& selection) const;
  std::vector<SlurmNode> AskNodes(std::vector<std::string> selection) const;

  std::string bin_dir_;
};

// Whether a job gets this variable of the coordinator's environment: what finds programs and
// libraries, and what is said to MPI, to the GPUs' libraries, to Slurm's commands and to our own.
bool PassesOn(const std::string& variable);

}  // namespace fr
