#pragma once
// Where tensors get their memory from, without any memory: what stays taken when buffers come and
// go. A processor's (heap_model.h) and a GPU's (cuda_pool_model.h).

#include <cstdint>
#include <memory>

namespace fr {

class MemoryModel;

// Stands for the memory of one tensor, shared by all that hold it, as a tensor's storage is.
class Buffer {
 public:
  Buffer(MemoryModel& model, std::int64_t bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

 private:
  MemoryModel& model_;
  std::int64_t bytes_;
  std::int64_t place_;
};

using BufferPtr = std::shared_ptr<Buffer>;

// Outlives its buffers. All numbers are bytes.
class MemoryModel {
 public:
  virtual ~MemoryModel() = default;

  BufferPtr New(std::int64_t bytes) { return std::make_shared<Buffer>(*this, bytes); }

  std::int64_t live() const { return live_; }  // held by somebody
  virtual std::int64_t resident() const = 0;   // taken from the system or the device
  std::int64_t peak_resident() const { return peak_resident_; }

 private:
  friend class Buffer;
  // The answer is what Free is told of the same bytes: the model's own business.
  virtual std::int64_t Allocate(std::int64_t bytes) = 0;
  virtual void Free(std::int64_t bytes, std::int64_t place) = 0;

  std::int64_t live_ = 0;
  std::int64_t peak_resident_ = 0;
};

}  // namespace fr
