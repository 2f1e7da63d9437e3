#pragma once
// Attempts as batch jobs of a Slurm cluster, by Slurm's own commands: sbatch, squeue, scancel and
// sinfo. The cluster is one configured node; Slurm chooses the machines. docs/launchers.md.

#include <memory>
#include <string>

#include "coordinator/launch/launcher.h"

namespace fr {

// `worker`: path of fr-worker on Slurm's nodes. Throws Error(kInvalidArgument) unless one node is
// configured, Error(kNotFound) when Slurm's commands are not here.
std::unique_ptr<Launcher> MakeSlurmLauncher(const CoordinatorSpec& spec, const std::string& worker);

}  // namespace fr
