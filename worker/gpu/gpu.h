#pragma once
// The GPU that this process computes on, as the engine sees it. CudaGpu (cuda_gpu.h) is the real
// one; the tests have one that runs the same kernels on the processor (tests/worker/gpu).
//
// One rank has one GPU or none. Whoever has a tensor asks GpuOf() for whoever computes on it: there
// is no other switch between the devices.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "worker/gpu/gpu_stream.h"

namespace fr {

struct GpuKernels;

// A point in a stream's work. Not for several threads at a time.
class GpuEvent {
 public:
  virtual ~GpuEvent() = default;
  // Everything that `stream` was given so far.
  virtual void Record(GpuStream stream) = 0;
  // Whether all of that is done; true before the first Record. Never blocks. Throws
  // Error(kUnavailable) when the GPU failed.
  virtual bool IsDone() const = 0;
  // Until it is done; the thread sleeps meanwhile. Throws as IsDone.
  virtual void Wait() const = 0;
  // What `stream` is given from now on begins after it.
  virtual void HoldBack(GpuStream stream) const = 0;
};

// Work that was recorded once and is begun with one call.
class GpuGraph {
 public:
  virtual ~GpuGraph() = default;
  // On the current stream. The same memory is read and written as when it was recorded.
  virtual void Replay() = 0;
};

struct GpuMemory {
  std::int64_t total_bytes = 0;  // of the device
  std::int64_t free_bytes = 0;   // of the device, now
  // Since the start or ResetPeak:
  std::int64_t peak_used_bytes = 0;  // largest sum of this process's tensors
  std::int64_t peak_held_bytes = 0;  // of what LibTorch took from the device for them
};

class Gpu {
 public:
  virtual ~Gpu() = default;

  virtual const std::string& name() const = 0;    // "NVIDIA H100 80GB HBM3"
  virtual at::Device device() const = 0;          // where its tensors lie
  virtual const GpuKernels& kernels() const = 0;  // on its memory
  virtual int multiprocessors() const = 0;

  // The calling thread's: what LibTorch's operators and our kernels are given to.
  virtual GpuStream stream() const = 0;
  // One more, which lives as long as this. `urgent`: goes before others where both have work.
  virtual GpuStream NewStream(bool urgent) = 0;
  // The calling thread's stream is `stream` within `work`.
  virtual void OnStream(GpuStream stream, const std::function<void()>& work) = 0;
  virtual std::unique_ptr<GpuEvent> NewEvent() = 0;
  // Everything this process gave to the GPU is done. Throws Error(kUnavailable) when it failed.
  virtual void Synchronize() = 0;

  // Host memory that copies to and from the GPU need not wait for.
  virtual at::Tensor NewPinned(at::IntArrayRef sizes, at::ScalarType type) = 0;
  // Memory of `tensor` is not given to others before what `stream` has now is done.
  virtual void KeepFor(const at::Tensor& tensor, GpuStream stream) = 0;

  // Runs `work`, which gives the GPU work and never waits for it, and records it instead of doing
  // it. Tensors made within it keep their memory as long as the graph. Graphs of one GPU are
  // replayed in the order in which they were recorded, as they share memory. Null where there is no
  // such thing, or `work` cannot be recorded: it was not done then.
  virtual std::unique_ptr<GpuGraph> Record(const std::function<void()>& work) = 0;

  virtual GpuMemory memory() const = 0;
  // What LibTorch holds for no tensor goes back to the device. Waits for the GPU.
  virtual void ReleaseUnused() = 0;
  // The peaks of memory() begin anew at what is in use now, after ReleaseUnused().
  virtual void ResetPeak() = 0;
};

// Of this process; null: it computes on the processor alone.
Gpu* ProcessGpu();
// Sets it, for the rest of the process or until the next call. Not owned.
void UseGpu(Gpu* gpu);

// The GPU on which `tensor` lies; null: not on one.
Gpu* GpuOf(const at::Tensor& tensor);

// Where a new tensor goes that others compute with: the process's GPU, or the processor.
at::Device ComputeDevice();

}  // namespace fr
