#pragma once
// bench_train on a GPU.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace fr {

// pytorch-bf16: bench/gpu_reference.py, what PyTorch users run (autocast, channels-last, eager);
// pytorch-compiled-bf16: the same with torch.compile. reference-*: MakeReference, the same
// operators from C++. bf16, fp32: MakeOwn.
std::vector<std::string> AllGpuTrainModes();

struct GpuTrainSetting {
  std::string device = "gpu";  // GpuBench
  std::string network = "r50";
  std::vector<std::int64_t> identities{85'742};
  std::int64_t batch = 128;
  int steps = 20;
  std::vector<std::string> modes{"pytorch-bf16", "bf16", "reference-bf16"};
  std::int64_t peak_size = 8192;  // of the square products that are called the peak
  std::string python;             // with torch; empty: nothing of pytorch-*
  std::filesystem::path reference = FR_GPU_REFERENCE;  // gpu_reference.py
  std::filesystem::path json;                          // empty: the table alone
};

// Every mode in a process of its own, on one rank. Prints a table and writes the JSON after every
// line. What does not fit is said so. Returns the exit code: 1 if a candidate failed otherwise, but
// for torch.compile, which does not work everywhere.
int MeasureTrainingOnGpu(const GpuTrainSetting& setting);

// One of these processes: measures `mode`, or "peak", and prints what it found as a line of JSON.
int MeasureGpuMode(const GpuTrainSetting& setting, const std::string& mode);

}  // namespace fr
