#pragma once
// What a machine is asked about itself, and what its answer says. Pure.

#include <cstdint>
#include <string>

#include "coordinator/launch/launcher.h"

namespace fr {

// Scripts for sh's standard input, so that no login shell interprets them. The words that each line
// of an answer begins with tell it from greetings.
extern const char* const kMachineScript;  // cores and memory
extern const char* const kGpuScript;      // no GPUs where there is no nvidia-smi

// Fills in cpus, memory_bytes, gpus and gpu_list from what the scripts have printed. False: this is
// no answer of theirs; the report is as it was then.
bool ReadHostFacts(const std::string& answer, NodeReport* report);

// One more GPU, by its number the last. memory_bytes 0: not known.
void AddGpu(const std::string& model, std::int64_t memory_bytes, NodeReport* report);

}  // namespace fr
