#pragma once
// The safetensors format (github.com/huggingface/safetensors): u64 header length, JSON header,
// tensors. Written little-endian, header padded with spaces to 8 bytes, tensors in the given order.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

namespace fr {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct WrittenFile {
  std::int64_t bytes = 0;
  std::uint64_t xxh3 = 0;
};

// Writes float32, float64, int64, float16, bfloat16 and uint8 CPU tensors of any strides to `path`
// as WriteFileAtomically does (beside, synced, renamed), without a second copy of all tensors in
// memory. `metadata` becomes __metadata__. Throws Error(kIo | kResourceExhausted).
WrittenFile WriteSafetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                             const std::map<std::string, std::string>& metadata);

// One open file; tensors are read on demand.
class SafetensorsFile {
 public:
  // Reads and checks the header. Throws Error(kNotFound), Error(kDataLoss) for anything that the
  // format forbids (offsets that overlap, leave gaps or leave the file; unknown dtypes; a header
  // beyond 100 MB), naming file and tensor.
  explicit SafetensorsFile(const std::filesystem::path& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  std::vector<std::string> names() const;
  const std::map<std::string, std::string>& metadata() const;
  // A copy. Throws Error(kNotFound) for an unknown name.
  at::Tensor Read(const std::string& name) const;
  std::map<std::string, at::Tensor> ReadAll() const;
  // Rows [begin, end) of the first dimension only.
  at::Tensor ReadRows(const std::string& name, std::int64_t begin, std::int64_t end) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fr
