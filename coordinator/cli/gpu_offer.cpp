#include "coordinator/cli/gpu_offer.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "common/cli/text.h"

namespace fr {
namespace {

constexpr const char* kSayIt = "gpu_memory_gib in a --machine file of frctl plan says it";

// A node's name is one of its labels.
bool HasLabels(const NodeStatus& node, const Resources& resources) {
  return std::all_of(
      resources.labels().begin(), resources.labels().end(), [&](const std::string& label) {
        return label == node.name() ||
               std::find(node.labels().begin(), node.labels().end(), label) != node.labels().end();
      });
}

}  // namespace

GpuOffer GpuOfMachine(const MachineModel& machine) {
  if (!machine.has_gpu_memory_gib()) {
    return {0, fmt::format("the GPU's memory is not known: {}", kSayIt)};
  }
  return {static_cast<std::int64_t>(std::floor(std::ldexp(machine.gpu_memory_gib(), 30))),
          machine.name()};
}

GpuOffer SmallestGpu(const ListNodesReply& reply, const Resources& resources) {
  GpuOffer smallest;
  for (const NodeStatus& node : reply.nodes()) {
    if (!HasLabels(node, resources)) continue;
    for (const GpuDescription& gpu : node.gpu_list()) {
      const std::int64_t bytes = gpu.memory_bytes();
      if (bytes <= 0 || (smallest.bytes > 0 && bytes >= smallest.bytes)) continue;
      smallest = {bytes, fmt::format("{} of {}", OneLine(gpu.model()), OneLine(node.name()))};
    }
  }
  if (smallest.bytes == 0) {
    smallest.source =
        fmt::format("the coordinator knows of no GPU's memory that would do: {}", kSayIt);
  }
  return smallest;
}

}  // namespace fr
