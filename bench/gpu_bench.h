#pragma once
// What benchmarks on a GPU have in common: the GPU with the collectives of its one rank, times of
// work that runs beside the host, and the most that the card does at all.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "worker/gpu/gpu.h"

namespace fr {

class Communicator;
class MpiCommunicator;
class MpiSession;

// Opens the first GPU of this process and uses it. Collectives are those of a worker that is the
// only rank: NCCL's on a real GPU.
class GpuBench {
 public:
  // `device`: gpu; or emulated_gpu, which runs the kernels on the processor and only shows that a
  // benchmark still works. Throws Error(kFailedPrecondition) where the build has none of that kind.
  explicit GpuBench(const std::string& device);
  ~GpuBench();

  Gpu& gpu() { return *gpu_; }
  Communicator& comm() { return *comm_; }

 private:
  std::unique_ptr<Gpu> gpu_;
  std::unique_ptr<MpiSession> session_;
  std::unique_ptr<MpiCommunicator> self_;
  std::unique_ptr<Communicator> nccl_;
  Communicator* comm_ = nullptr;
};

// Seconds from when the GPU has nothing to do until it has nothing to do again, of each of `count`
// calls.
std::vector<double> GpuSeconds(Gpu& gpu, int count, const std::function<void()>& work);

// Operations a second of the fastest of several LibTorch products of n x n matrices: what is called
// the peak here. Random values: zeros would run faster.
double ProductPeak(Gpu& gpu, at::ScalarType type, std::int64_t n);

// line[key] times `factor`, with its unit; a dash where the line lacks it.
std::string Figure(const nlohmann::json& line, const char* key, double factor, const char* unit,
                   int digits);

// Nothing if `work` ended; else why not, in one line: "does not fit" where memory ran out, or
// "failed: ..".
std::string WhyNot(const std::function<void()>& work);

}  // namespace fr
