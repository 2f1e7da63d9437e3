#pragma once
// bench_head on a GPU.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace fr {

// The modes that are measured, in this order, of which --only chooses.
//
// reference-fp32, reference-bf16: HeadReference. in-place-bf16: the same with arcface_torch's
// softmax. fp32, bf16: MarginHead with products of that precision; and of bf16 tolerance and
// tolerance-trained (mass_tolerance 1e-3, at the start of training and with trained embeddings) and
// sampled (sample_rate 0.1).
std::vector<std::string> GpuHeadModes();

struct GpuHeadSetting {
  std::string device = "gpu";  // GpuBench
  // One of each a row of the table; most important first, so that what time there is goes there.
  std::vector<std::int64_t> identities{85'742, 1'000'000, 85'742, 85'742, 1'000'000, 1'000'000};
  std::vector<std::int64_t> batches{512, 512, 128, 1024, 128, 1024};
  std::int64_t dim = 512;
  int steps = 10;
  std::vector<std::string> modes = GpuHeadModes();
  std::int64_t peak_size = 8192;  // of the square products that are called the peak
  std::filesystem::path json;     // empty: the table alone
};

// All in one process, one after the other. Prints a table and writes the JSON after every line.
// What does not fit is said so. Returns the exit code: 1 if a candidate failed otherwise.
int MeasureHeadsOnGpu(const GpuHeadSetting& setting);

}  // namespace fr
