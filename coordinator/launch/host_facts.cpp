#include "coordinator/launch/host_facts.h"

#include <charconv>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

#include "common/base/trimmed.h"

namespace fr {
namespace {

constexpr std::int64_t kKib = 1024;
constexpr std::int64_t kMib = 1024 * kKib;
// Beyond them an answer is nonsense, and might overflow.
constexpr std::int64_t kMostCpus = std::int64_t{1} << 20;
constexpr std::int64_t kMostMemory = std::int64_t{1} << 40;  // KiB or MiB

// Nothing for what is no number, or not a sensible one.
std::optional<std::int64_t> Amount(std::string_view text, std::int64_t most) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < 0 || value > most) return std::nullopt;
  return value;
}

// "NVIDIA H100 80GB HBM3, 81559": model, and MiB or "[N/A]" where it has no memory of its own. What
// nvidia-smi has to complain about comes on the same output, and is no GPU.
void ReadGpu(std::string_view line, NodeReport* report) {
  const std::size_t comma = line.rfind(',');
  if (comma == std::string_view::npos) return;
  const std::string_view memory = Trimmed(line.substr(comma + 1));
  const std::optional<std::int64_t> mib = Amount(memory, kMostMemory);
  if (!mib && !(memory.starts_with('[') && memory.ends_with(']'))) return;
  AddGpu(std::string(Trimmed(line.substr(0, comma))), mib.value_or(0) * kMib, report);
}

}  // namespace

const char* const kMachineScript =
    "echo \"fr-cpus $(OMP_NUM_THREADS= nproc)\"\n"
    "while read -r key value unit; do\n"
    "  if [ \"$key\" = MemTotal: ]; then echo \"fr-memory-kib $value\"; fi\n"
    "done </proc/meminfo\n";

const char* const kGpuScript =
    "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits 2>/dev/null |\n"
    "  sed 's/^/fr-gpu /'\n";

bool ReadHostFacts(const std::string& answer, NodeReport* report) {
  NodeReport facts = *report;
  std::istringstream lines(answer);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t blank = line.find(' ');
    if (blank == std::string::npos) continue;
    const std::string_view key = std::string_view(line).substr(0, blank);
    const std::string_view value = Trimmed(std::string_view(line).substr(blank + 1));
    if (key == "fr-cpus") facts.cpus = static_cast<int>(Amount(value, kMostCpus).value_or(0));
    if (key == "fr-memory-kib") facts.memory_bytes = Amount(value, kMostMemory).value_or(0) * kKib;
    if (key == "fr-gpu") ReadGpu(value, &facts);
  }
  if (facts.cpus <= 0) return false;
  *report = std::move(facts);
  return true;
}

void AddGpu(const std::string& model, std::int64_t memory_bytes, NodeReport* report) {
  GpuDescription& gpu = report->gpu_list.emplace_back();
  gpu.set_model(model);
  gpu.set_memory_bytes(memory_bytes);
  report->gpus = static_cast<int>(report->gpu_list.size());
}

}  // namespace fr
