#pragma once
// fr-submit --dry-run and frctl plan: what a job would do and need, as far as its file and its data
// directory tell.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/config/yaml_message.h"
#include "common/plan/job_plan.h"
#include "coordinator/cli/gpu_offer.h"
#include "proto/job.pb.h"
#include "proto/machine.pb.h"
#include "proto/rpc.pb.h"

namespace fr {

// Reads `property` and counts the lines of train.idx, in a directory of records; what cannot be
// read is unknown.
DataFacts ReadDataFacts(const std::string& directory);

struct MachineConfig {
  MachineModel machine;
  std::vector<Diagnostic> diagnostics;
};

// A --machine file, or the defaults for an empty path. Throws Error(kNotFound | kIo) if the file
// cannot be read.
MachineConfig LoadMachine(const std::string& path);

// Lines for people. `gpu`: what a job with resources.device: gpu will get.
std::string DescribePlan(const JobSpec& spec, const DataFacts& facts, const MachineModel& machine,
                         const GpuOffer& gpu);

// The same for programs, as JSON: bytes, seconds, multiply-adds; null for what is unknown.
std::string PlanJson(const JobSpec& spec, const DataFacts& facts, const MachineModel& machine,
                     const GpuOffer& gpu);

struct PlanOptions {
  std::string job_file;
  std::vector<std::string> overrides;
  std::optional<std::int64_t> identities;  // in place of what the directory says
  std::optional<std::int64_t> images;
  std::string machine_file;
  bool json = false;
  // Asked where a job wants GPUs and the machine file does not say how large they are; may throw
  // Error.
  std::function<ListNodesReply()> nodes;
};

// frctl plan: prints to standard output. The job's paths need not be there: what they would tell is
// then unknown, or given. Returns the exit code.
int RunPlan(const PlanOptions& options);

}  // namespace fr
