#pragma once
// A GPU of which only streams and events are there: its memory is the processor's, and what it is
// given is done at once, unless a test has it hang.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/base/error.h"
#include "worker/gpu/gpu.h"

namespace fr {

class StubGpu : public Gpu {
 public:
  StubGpu() { UseGpu(this); }
  ~StubGpu() override { UseGpu(nullptr); }

  // Events recorded while it hangs are not done before it goes on.
  std::atomic<bool> hangs = false;
  // Then whoever asks for an event hears of it.
  std::atomic<bool> broken = false;

  // "record 1", "hold back 0": what events were asked for, with the stream's number.
  std::vector<std::string> TakeLog() {
    const std::lock_guard lock(mutex_);
    return std::exchange(log_, {});
  }

  const std::string& name() const override { return name_; }
  at::Device device() const override { return at::kCPU; }
  const GpuKernels& kernels() const override {
    throw Error(ErrorCode::kInternal, "a stub has no kernels");
  }
  int multiprocessors() const override { return 1; }
  GpuStream stream() const override { return stream_; }
  GpuStream NewStream(bool /*urgent*/) override {
    return reinterpret_cast<GpuStream>(static_cast<std::uintptr_t>(++streams_));
  }
  void OnStream(GpuStream stream, const std::function<void()>& work) override {
    const GpuStream before = std::exchange(stream_, stream);
    try {
      work();
    } catch (...) {
      stream_ = before;
      throw;
    }
    stream_ = before;
  }
  std::unique_ptr<GpuEvent> NewEvent() override { return std::make_unique<Event>(*this); }
  void Synchronize() override {}
  at::Tensor NewPinned(at::IntArrayRef sizes, at::ScalarType type) override {
    return at::empty(sizes, type);
  }
  void KeepFor(const at::Tensor& /*tensor*/, GpuStream stream) override { Log("keep for", stream); }
  std::unique_ptr<GpuGraph> Record(const std::function<void()>& /*work*/) override {
    return nullptr;
  }
  GpuMemory memory() const override { return {}; }
  void ReleaseUnused() override {}
  void ResetPeak() override {}

 private:
  class Event : public GpuEvent {
   public:
    explicit Event(StubGpu& gpu) : gpu_(gpu) {}
    void Record(GpuStream stream) override {
      gpu_.Log("record", stream);
      held_ = gpu_.hangs;
    }
    bool IsDone() const override {
      if (gpu_.broken) throw Error(ErrorCode::kUnavailable, "the GPU has fallen off the bus");
      return !held_ || !gpu_.hangs;
    }
    void Wait() const override { throw Error(ErrorCode::kInternal, "the host waited"); }
    void HoldBack(GpuStream stream) const override { gpu_.Log("hold back", stream); }

   private:
    StubGpu& gpu_;
    bool held_ = false;
  };

  void Log(const std::string& what, GpuStream stream) {
    const std::lock_guard lock(mutex_);
    log_.push_back(what + " " + std::to_string(reinterpret_cast<std::uintptr_t>(stream)));
  }

  std::string name_ = "stub";
  GpuStream stream_ = nullptr;
  int streams_ = 0;
  std::mutex mutex_;
  std::vector<std::string> log_;
};

}  // namespace fr
