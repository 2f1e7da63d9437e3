#include "worker/gpu/cuda/cuda_gpu.h"

#include <utility>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include <ATen/Context.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "common/base/error.h"
#include "common/base/logging.h"
#include "worker/comm/nccl_library.h"
#include "worker/gpu/cuda/native_kernels.h"
#include "worker/gpu/open_gpu.h"

namespace fr {
namespace {

constexpr int kOldestMajor = 8;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw Error(ErrorCode::kUnavailable, fmt::format("GPU: {}: {}", what, cudaGetErrorString(error)));
}

c10::DeviceIndex DeviceIndex(int index) { return static_cast<c10::DeviceIndex>(index); }

cudaStream_t Raw(GpuStream stream) { return static_cast<cudaStream_t>(stream); }

class CudaEvent final : public GpuEvent {
 public:
  explicit CudaEvent(int index) : index_(index) {
    Check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync),
          "an event cannot be made");
  }
  ~CudaEvent() override { cudaEventDestroy(event_); }

  void Record(GpuStream stream) override {
    Check(cudaEventRecord(event_, Raw(stream)), "an event cannot be recorded");
  }
  bool IsDone() const override {
    const c10::cuda::CUDAGuard guard(DeviceIndex(index_));
    const cudaError_t error = cudaEventQuery(event_);
    if (error == cudaErrorNotReady) return false;
    Check(error, "work failed");
    return true;
  }
  void Wait() const override {
    const c10::cuda::CUDAGuard guard(DeviceIndex(index_));
    Check(cudaEventSynchronize(event_), "work failed");
  }
  void HoldBack(GpuStream stream) const override {
    Check(cudaStreamWaitEvent(Raw(stream), event_, 0), "a stream cannot wait");
  }

 private:
  int index_;
  cudaEvent_t event_ = nullptr;
};

class CudaGraphOfWork final : public GpuGraph {
 public:
  explicit CudaGraphOfWork(std::unique_ptr<at::cuda::CUDAGraph> graph) : graph_(std::move(graph)) {}
  void Replay() override { graph_->replay(); }

 private:
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
};

}  // namespace

CudaGpu::CudaGpu(int index, bool deterministic) : index_(index) {
  c10::cuda::set_device(DeviceIndex(index));
  // The allocator, too, which is asked for its memory perhaps before there is a tensor.
  at::globalContext().lazyInitDevice(at::kCUDA);
  const cudaDeviceProp* properties = at::cuda::getDeviceProperties(DeviceIndex(index));
  name_ = properties->name;
  multiprocessors_ = properties->multiProcessorCount;
  if (properties->major < kOldestMajor) {
    throw Error(ErrorCode::kFailedPrecondition,
                fmt::format("{} has compute capability {}.{}: {}.0 or newer is needed (A100, RTX "
                            "30 and later)",
                            name_, properties->major, properties->minor, kOldestMajor));
  }
  // Graphs cannot be recorded on the default stream, and it waits for all others.
  c10::cuda::setCurrentCUDAStream(
      c10::cuda::getStreamFromPool(/*isHighPriority=*/false, DeviceIndex(index)));
  at::Context& context = at::globalContext();
  context.setBenchmarkCuDNN(!deterministic);
  context.setDeterministicCuDNN(deterministic);
  context.setAllowTF32CuDNN(false);
  context.setAllowTF32CuBLAS(false);
  graph_pool_ = at::cuda::graph_pool_handle();
}

at::Device CudaGpu::device() const { return {at::kCUDA, DeviceIndex(index_)}; }

const GpuKernels& CudaGpu::kernels() const { return native_gpu::kKernels; }

GpuStream CudaGpu::stream() const {
  return c10::cuda::getCurrentCUDAStream(DeviceIndex(index_)).stream();
}

// From LibTorch's pool: never freed.
GpuStream CudaGpu::NewStream(bool urgent) {
  return c10::cuda::getStreamFromPool(urgent, DeviceIndex(index_)).stream();
}

void CudaGpu::OnStream(GpuStream stream, const std::function<void()>& work) {
  const c10::cuda::CUDAStreamGuard guard(
      c10::cuda::getStreamFromExternal(Raw(stream), DeviceIndex(index_)));
  work();
}

std::unique_ptr<GpuEvent> CudaGpu::NewEvent() { return std::make_unique<CudaEvent>(index_); }

void CudaGpu::Synchronize() {
  const c10::cuda::CUDAGuard guard(DeviceIndex(index_));
  Check(cudaDeviceSynchronize(), "work failed");
}

at::Tensor CudaGpu::NewPinned(at::IntArrayRef sizes, at::ScalarType type) {
  return at::empty(sizes, at::TensorOptions(type).pinned_memory(true));
}

void CudaGpu::KeepFor(const at::Tensor& tensor, GpuStream stream) {
  c10::cuda::CUDACachingAllocator::recordStream(
      tensor.storage().data_ptr(),
      c10::cuda::getStreamFromExternal(Raw(stream), DeviceIndex(index_)));
}

// Other threads go on with calls that a recording of all threads would forbid: those of the loader
// and of the watch over collectives.
std::unique_ptr<GpuGraph> CudaGpu::Record(const std::function<void()>& work) {
  auto graph = std::make_unique<at::cuda::CUDAGraph>();
  graph->capture_begin(graph_pool_, cudaStreamCaptureModeThreadLocal);
  try {
    work();
    graph->capture_end();
  } catch (const std::exception& error) {
    spdlog::warn("the step cannot be recorded as a graph: {}", error.what());
    try {
      graph->capture_end();
    } catch (const std::exception&) {  // it ended when it failed
    }
    cudaGetLastError();  // so that the next check does not find this one
    return nullptr;
  }
  return std::make_unique<CudaGraphOfWork>(std::move(graph));
}

GpuMemory CudaGpu::memory() const {
  const c10::cuda::CUDAGuard guard(DeviceIndex(index_));
  std::size_t free = 0;
  std::size_t total = 0;
  Check(cudaMemGetInfo(&free, &total), "its memory cannot be read");
  using c10::CachingAllocator::StatType;
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(DeviceIndex(index_));
  const auto all = static_cast<std::size_t>(StatType::AGGREGATE);
  GpuMemory memory;
  memory.total_bytes = static_cast<std::int64_t>(total);
  memory.free_bytes = static_cast<std::int64_t>(free);
  memory.peak_used_bytes = stats.allocated_bytes[all].peak;
  memory.peak_held_bytes = stats.reserved_bytes[all].peak;
  return memory;
}

void CudaGpu::ReleaseUnused() {
  Synchronize();
  c10::cuda::CUDACachingAllocator::emptyCache();
}

void CudaGpu::ResetPeak() {
  ReleaseUnused();
  c10::cuda::CUDACachingAllocator::resetPeakStats(DeviceIndex(index_));
}

bool HasGpuSupport() { return true; }

int CountGpus() { return c10::cuda::device_count(); }

std::unique_ptr<Gpu> OpenGpu(int index, bool deterministic) {
  return std::make_unique<CudaGpu>(index, deterministic);
}

std::string GpuIdentity(int index) {
  const cudaDeviceProp* properties = at::cuda::getDeviceProperties(DeviceIndex(index));
  std::string text;
  for (const char byte : properties->uuid.bytes) {
    text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  }
  return text;
}

const NcclApi* NcclOrNull() { return &NcclLibrary(); }

}  // namespace fr
