#include "bench/gpu_bench.h"

#include <algorithm>
#include <iostream>

#include <fmt/format.h>

#include "bench/measure.h"
#include "common/base/error.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/rank_messages.h"
#include "worker/gpu/open_gpu.h"
#ifdef FR_EMULATED_GPU
#include "emulated_gpu.h"
#endif

namespace fr {
namespace {

std::unique_ptr<Gpu> OpenBenchGpu(const std::string& device) {
#ifdef FR_EMULATED_GPU
  if (device == "emulated_gpu") return std::make_unique<EmulatedGpu>();
#endif
  if (device != "gpu") {
    throw Error(ErrorCode::kFailedPrecondition, "--device " + device + ": not in this build");
  }
  if (HasGpuSupport() && CountGpus() == 0) {
    throw Error(ErrorCode::kFailedPrecondition, "--device gpu: there is none, or no driver of it");
  }
  // As a training job that does not ask for the same bits in every run.
  return OpenGpu(0, /*deterministic=*/false);
}

}  // namespace

GpuBench::GpuBench(const std::string& device)
    : gpu_(OpenBenchGpu(device)),
      session_(std::make_unique<MpiSession>(nullptr, nullptr)),
      self_(std::make_unique<MpiCommunicator>(MpiCommunicator::Self{})),
      comm_(self_.get()) {
  UseGpu(gpu_.get());
  if (!gpu_->device().is_cuda()) return;
  try {
    nccl_ = std::make_unique<NcclCommunicator>(*self_, self_->NewMessages(), *gpu_, *NcclOrNull(),
                                               CollectiveWatchOptions{});
  } catch (const Error& error) {
    // The session ends the process when it is unwound: nobody would hear of it.
    std::cerr << "benchmark: " << error.what() << "\n";
    throw;
  }
  comm_ = nccl_.get();
}

GpuBench::~GpuBench() {
  nccl_.reset();
  UseGpu(nullptr);
}

std::vector<double> GpuSeconds(Gpu& gpu, int count, const std::function<void()>& work) {
  std::vector<double> seconds;
  gpu.Synchronize();
  for (int i = 0; i < count; ++i) {
    seconds.push_back(Seconds([&] {
      work();
      gpu.Synchronize();
    }));
  }
  return seconds;
}

double ProductPeak(Gpu& gpu, at::ScalarType type, std::int64_t n) {
  const auto options = at::TensorOptions(gpu.device());
  const at::Tensor a = torch::randn({n, n}, options).to(type);
  const at::Tensor b = torch::randn({n, n}, options).to(type);
  at::Tensor c = at::mm(a, b);
  const auto product = [&] { at::mm_out(c, a, b); };
  GpuSeconds(gpu, 2, product);
  const std::vector<double> seconds = GpuSeconds(gpu, 10, product);
  const double size = static_cast<double>(n);
  return 2 * size * size * size / *std::min_element(seconds.begin(), seconds.end());
}

std::string Figure(const nlohmann::json& line, const char* key, double factor, const char* unit,
                   int digits) {
  if (!line.contains(key)) return "-";
  return fmt::format("{:.{}f}{}", factor * line[key].get<double>(), digits, unit);
}

std::string WhyNot(const std::function<void()>& work) {
  try {
    work();
  } catch (const c10::OutOfMemoryError&) {
    return "does not fit";
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return "failed: " + text.substr(0, text.find('\n'));
  }
  return "";
}

}  // namespace fr
