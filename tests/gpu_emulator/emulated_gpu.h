#pragma once
// A GPU whose memory is the processor's and whose kernels run there (simt.h): what is given to it
// is done at once, so its streams and events have nothing to do.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/gpu/gpu.h"
#include "worker/gpu/kernels/kernels.h"

namespace fr {

class EmulatedGpu : public Gpu {
 public:
  const std::string& name() const override { return name_; }
  at::Device device() const override { return at::Device(at::kCPU); }
  const GpuKernels& kernels() const override { return emulated_gpu::kKernels; }
  int multiprocessors() const override { return 4; }

  GpuStream stream() const override { return nullptr; }
  GpuStream NewStream(bool /*urgent*/) override { return nullptr; }
  void OnStream(GpuStream /*stream*/, const std::function<void()>& work) override { work(); }
  std::unique_ptr<GpuEvent> NewEvent() override { return std::make_unique<Event>(); }
  void Synchronize() override {}

  at::Tensor NewPinned(at::IntArrayRef sizes, at::ScalarType type) override {
    return at::empty(sizes, type);
  }
  void KeepFor(const at::Tensor& /*tensor*/, GpuStream /*stream*/) override {}
  // Does the work once, as a real one calls it once, and again with each Replay.
  std::unique_ptr<GpuGraph> Record(const std::function<void()>& work) override {
    work();
    return std::make_unique<Graph>(work);
  }
  GpuMemory memory() const override { return {}; }
  void ReleaseUnused() override {}
  void ResetPeak() override {}

 private:
  struct Graph : GpuGraph {
    explicit Graph(std::function<void()> work_in) : work(std::move(work_in)) {}
    void Replay() override { work(); }
    std::function<void()> work;
  };
  struct Event : GpuEvent {
    void Record(GpuStream /*stream*/) override {}
    bool IsDone() const override { return true; }
    void Wait() const override {}
    void HoldBack(GpuStream /*stream*/) const override {}
  };

  std::string name_ = "emulated";
};

}  // namespace fr
