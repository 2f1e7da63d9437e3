#pragma once
// All parameters of a module in one buffer, and all their gradients in another: one all-reduce,
// one norm, one fused update.

#include <cstdint>
#include <string>
#include <vector>

#include <torch/torch.h>

namespace fr {

class FlatParameters {
 public:
  // Moves every trainable float32 parameter of `module` into one buffer, of which it becomes a view
  // (4-d weights in channels-last order), and gives each a gradient that is a view, too:
  // autograd accumulates in place. `module` must outlive this and must not replace its
  // parameters or their gradients.
  explicit FlatParameters(torch::nn::Module& module);

  at::Tensor& values() { return values_; }        // [n] float32
  at::Tensor& gradients() { return gradients_; }  // [n] float32

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
