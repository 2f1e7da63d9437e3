#pragma once
// All trained parameters of a network in one buffer, and all their gradients in another: one
// all-reduce, one norm, one fused update.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace fr {

class FlatParameters {
 public:
  // Room for parameters of these names and shapes on ComputeDevice(), float32, all zero; 4-d ones
  // in channels-last order. Without gradients: for values that nobody trains, half the memory;
  // gradients() is undefined.
  explicit FlatParameters(
      const std::vector<std::pair<std::string, std::vector<std::int64_t>>>& parameters,
      bool with_gradients = true);

  at::Tensor& values() { return values_; }        // [n] float32
  at::Tensor& gradients() { return gradients_; }  // [n] float32
  const at::Tensor& values() const { return values_; }
  const at::Tensor& gradients() const { return gradients_; }

  struct Entry {
    std::string name;
    std::int64_t offset = 0;
    std::vector<std::int64_t> sizes;
    std::vector<std::int64_t> strides;
  };
  const std::vector<Entry>& entries() const { return entries_; }

  // The part of `flat` ([n], e.g. momentum) that belongs to `entry`, with the parameter's shape; a
  // view.
  static at::Tensor View(const at::Tensor& flat, const Entry& entry);

 private:
  at::Tensor values_;
  at::Tensor gradients_;
  std::vector<Entry> entries_;
};

}  // namespace fr
