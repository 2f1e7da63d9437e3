#include "coordinator/launch/mpirun_command.h"

#include <algorithm>
#include <initializer_list>

#include <fmt/format.h>
#include <unistd.h>

#include "common/base/error.h"
#include "coordinator/launch/session.h"
#include "coordinator/launch/ssh.h"

namespace fr {
namespace {

using Words = std::vector<std::string>;

void Append(Words* words, std::initializer_list<std::string> more) {
  words->insert(words->end(), more);
}

// Open MPI refuses a parameter that is given twice: what the configuration sets stays as it is.
void AppendParameter(Words* words, const CoordinatorSpec& spec, const std::string& name,
                     const std::string& value) {
  const auto& own = spec.mpirun_args();
  if (std::find(own.begin(), own.end(), name) == own.end()) Append(words, {"-mca", name, value});
}

// What holds for all hosts.
Words HostArguments(const CoordinatorSpec& spec) {
  Words words = {"--map-by", "slot"};
  AppendParameter(&words, spec, "plm_rsh_agent",
                  fmt::format("{}", fmt::join(SshCommand(spec.ssh()), " ")));
  // Only this machine needs ssh to the others, however many they are.
  AppendParameter(&words, spec, "plm_rsh_no_tree_spawn", "1");
  // A host that vanishes without a word is noticed, and its workers notice, within 25 s.
  AppendParameter(&words, spec, "oob_tcp_keepalive_time", "10");
  AppendParameter(&words, spec, "oob_tcp_keepalive_intvl", "5");
  AppendParameter(&words, spec, "oob_tcp_keepalive_probes", "3");
  return words;
}

// Open MPI passes -x on within one part only.
Words EnvironmentArguments(const LaunchRequest& request, const NodeSlots& slots) {
  Words words = {"-x", fmt::format("OMP_NUM_THREADS={}", request.threads_per_worker)};
  if (slots.gpus_size() > 0) {
    // CUDA itself would count the fastest first; the numbers are those of NVML and nvidia-smi.
    Append(&words, {"-x", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "-x",
                    fmt::format("CUDA_VISIBLE_DEVICES={}", fmt::join(slots.gpus(), ","))});
  }
  return words;
}

}  // namespace

std::vector<std::string> WorkerCommand(const std::string& worker, const LaunchRequest& request) {
  return {worker,
          "--coordinator",
          request.coordinator,
          "--job-id",
          request.job_id,
          "--attempt",
          std::to_string(request.attempt)};
}

std::vector<std::string> MpirunCommand(const CoordinatorSpec& spec, const std::string& worker,
                                       const LaunchRequest& request) {
  const bool only_here =
      std::all_of(request.slots.begin(), request.slots.end(),
                  [](const NodeSlots& slots) { return slots.node() == kThisMachine; });
  Words command = {spec.mpirun()};
  // Open MPI refuses root unless asked; who runs the coordinator as root has decided already.
  if (geteuid() == 0) Append(&command, {"--allow-run-as-root"});
  // Slots are the coordinator's to count, and threads are the job's.
  Append(&command, {"--bind-to", "none"});
  const auto append_all = [&command](const Words& words) {
    command.insert(command.end(), words.begin(), words.end());
  };
  append_all(only_here ? Words{"--oversubscribe"} : HostArguments(spec));
  for (int i = 0; i < std::ssize(request.slots); ++i) {
    const NodeSlots& slots = request.slots[static_cast<std::size_t>(i)];
    if (i > 0) Append(&command, {":"});
    append_all({spec.mpirun_args().begin(), spec.mpirun_args().end()});
    Append(&command, {"-np", std::to_string(slots.slots())});
    if (!only_here) {
      Append(&command, {"--host", fmt::format("{}:{}", slots.node(), slots.slots()), "-x",
                        fmt::format("{}={}", kAttemptVariable, request.directory.string())});
    }
    append_all(EnvironmentArguments(request, slots));
    append_all(WorkerCommand(worker, request));
  }
  return command;
}

void CheckMpirunAgent(const CoordinatorSpec& spec) {
  for (const std::string& word : SshCommand(spec.ssh())) {
    if (!word.empty() && word.find_first_of(" \t:") == std::string::npos) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("ssh: '{}': mpirun takes no ssh command with blanks, colons or empty "
                            "words; write a configuration file for ssh and say args: [-F, FILE]",
                            word));
  }
}

}  // namespace fr
