#include "worker/train/choose_gpu.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/host_name.h"
#include "common/base/logging.h"
#include "worker/comm/communicator.h"
#include "worker/comm/first_text.h"
#include "worker/gpu/open_gpu.h"

namespace fr {
namespace {

// Empty: every rank has a GPU.
std::string WhatIsMissing(int own_gpus, Communicator& comm) {
  std::string missing;
  if (!HasGpuSupport()) {
    missing = "this fr-worker was built without GPU support (FR_CUDA)";
  } else if (own_gpus == 0) {
    missing = fmt::format("rank {} on {} sees no GPU (nvidia-smi, CUDA_VISIBLE_DEVICES)",
                          comm.rank(), HostName());
  }
  return FirstText(missing, comm);
}

// Two ranks on one GPU would wait for each other's memory, and NCCL refuses them.
void RefuseSharing(int index, Communicator& comm) {
  const std::string own = HostName() + " " + GpuIdentity(index);
  std::string shared;
  std::map<std::string, std::size_t> rank_of;
  const std::vector<std::string> all = comm.GatherBytes(own, 0);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const auto [other, is_new] = rank_of.emplace(all[rank], rank);
    if (is_new || !shared.empty()) continue;
    shared = fmt::format(
        "resources.workers: ranks {} and {} would share one GPU of {}: there are fewer GPUs than "
        "workers on it",
        other->second, rank, all[rank].substr(0, all[rank].find(' ')));
  }
  shared = comm.BroadcastBytes(shared, 0);
  if (!shared.empty()) throw Error(ErrorCode::kResourceExhausted, shared);
}

}  // namespace

std::unique_ptr<Gpu> ChooseGpu(Resources::Device wanted, bool deterministic, Communicator& comm) {
  if (wanted == Resources::cpu) return nullptr;
  const int gpus = CountGpus();
  const std::string missing = WhatIsMissing(gpus, comm);
  if (!missing.empty()) {
    if (wanted == Resources::gpu) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("resources.device: gpu was asked for, but {}; use auto or cpu, or "
                              "start the job where GPUs are",
                              missing));
    }
    if (gpus > 0) spdlog::warn("computes on the processor: {}", missing);
    return nullptr;
  }
  const int index = comm.rank_on_this_host() % gpus;
  std::unique_ptr<Gpu> gpu;
  std::string failure;
  try {
    gpu = OpenGpu(index, deterministic);
  } catch (const std::exception& error) {
    failure = fmt::format("rank {} on {}: {}", comm.rank(), HostName(), error.what());
  }
  failure = FirstText(failure, comm);
  if (!failure.empty()) throw Error(ErrorCode::kFailedPrecondition, failure);
  RefuseSharing(index, comm);
  spdlog::info("computes on GPU {} of {}: {}", index, HostName(), gpu->name());
  return gpu;
}

}  // namespace fr
