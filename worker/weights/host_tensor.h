#pragma once
// Tensors as files hold them: bytes with a type and a shape, without LibTorch.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace fr {

enum class Dtype {
  kFloat32,
  kFloat64,
  kFloat16,
  kBFloat16,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kUInt8,
  kUInt16,
  kUInt32,
  kUInt64,
  kBool,
};

// Bytes of one element.
std::int64_t ElementBytes(Dtype dtype);
// "float32".
const char* DtypeName(Dtype dtype);

// Elements of `shape`, or -1 if a dimension is negative or the product overflows.
std::int64_t CountElements(std::span<const std::int64_t> shape);
// Bytes of a tensor, or -1 in the same cases.
std::int64_t CountBytes(Dtype dtype, std::span<const std::int64_t> shape);
// "[64, 3, 3, 3]".
std::string ShapeText(std::span<const std::int64_t> shape);

// A contiguous, row-major, little-endian tensor. Copies share its bytes, which live as long as one
// of them does: they may lie in a mapped file.
struct HostTensor {
  Dtype dtype = Dtype::kFloat32;
  std::vector<std::int64_t> shape;
  std::string_view bytes;             // CountBytes(dtype, shape) of them, at any alignment
  std::shared_ptr<const void> owner;  // of `bytes`

  static HostTensor FromFloats(std::vector<std::int64_t> shape, std::vector<float> values);
  // Takes `bytes` over. REQUIRES: as many as `dtype` and `shape` say.
  static HostTensor FromBytes(Dtype dtype, std::vector<std::int64_t> shape, std::string bytes);

  std::int64_t numel() const { return CountElements(shape); }
  // Itself if it is float32 and aligned, else a converted copy: f16 and bf16 exactly, f64 and
  // integers rounded to nearest, true as 1.
  HostTensor ToFloat32() const;
  // The elements of what ToFloat32 returned. REQUIRES: dtype is float32 and `bytes` are aligned.
  std::span<const float> floats() const;
  // The same bytes with another shape. Throws Error(kInvalidArgument) if the number of elements
  // differs.
  HostTensor Reshaped(std::vector<std::int64_t> new_shape) const;
  // A copy of a matrix with rows and columns exchanged. Throws Error(kInvalidArgument) for others.
  HostTensor Transposed() const;
};

// Tensors by name, in file order.
class HostTensors {
 public:
  using Item = std::pair<std::string, HostTensor>;

  // False, and nothing is changed, if there is one of that name.
  bool Add(std::string name, HostTensor tensor);
  // nullptr if there is none.
  const HostTensor* Find(const std::string& name) const;

  std::size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  std::vector<Item>::const_iterator begin() const { return items_.begin(); }
  std::vector<Item>::const_iterator end() const { return items_.end(); }

 private:
  std::vector<Item> items_;
  std::unordered_map<std::string, std::size_t> index_;
};

}  // namespace fr
