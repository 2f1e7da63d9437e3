#pragma once
// What one training step's forward and backward passes hand from node to node.

#include <utility>
#include <vector>

#include <torch/torch.h>

#include "worker/backbones/run/compute_node.h"

namespace fr {

class Communicator;

// Values and gradients by node index; undefined where there is none, or none any more.
class Tape {
 public:
  explicit Tape(std::size_t nodes) : values_(nodes), gradients_(nodes) {}

  at::Tensor& value(int node) { return values_[static_cast<std::size_t>(node)]; }

  // Adds to the gradient of a node's value. `gradient` may be shared with other nodes: a sum is
  // written in place only where nobody else holds the memory.
  void AddGradient(int node, at::Tensor gradient) {
    at::Tensor& sum = gradients_[static_cast<std::size_t>(node)];
    if (!sum.defined()) {
      sum = std::move(gradient);
    } else if (IsOwn(sum)) {
      sum.add_(gradient);
    } else {
      sum = sum + gradient;
    }
  }

  // What was added so far; undefined if nothing was.
  const at::Tensor& gradient(int node) const { return gradients_[static_cast<std::size_t>(node)]; }

  at::Tensor TakeGradient(int node) {
    return std::exchange(gradients_[static_cast<std::size_t>(node)], at::Tensor());
  }

  // Whether `tensor` is the only holder of its memory.
  static bool IsOwn(const at::Tensor& tensor) {
    return tensor.use_count() == 1 && tensor.storage().use_count() == 1;
  }

 private:
  std::vector<at::Tensor> values_;
  std::vector<at::Tensor> gradients_;
};

// How a forward pass runs.
struct PassMode {
  ComputeMode compute;
  // A block's second forward pass, for its backward pass alone: statistics, random draws and
  // running means stay those of the first.
  bool again = false;
  // In a second pass, when nothing within the block reads the step's result.
  bool result_unused = false;
  // A pass that looks for a fault: running means stay what they are.
  bool trial = false;
};

// One or several fused nodes of a graph, forward and backward. In this order: Forward, (Forget,
// Forward again,) Backward.
class Step {
 public:
  Step(std::vector<int> inputs, int output, int block)
      : inputs_(std::move(inputs)), output_(output), block_(block) {}
  virtual ~Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  const std::vector<int>& inputs() const { return inputs_; }
  int output() const { return output_; }
  int block() const { return block_; }

  // Reads the inputs' values, writes the output's, keeps what Backward needs.
  virtual void Forward(Tape& tape, const PassMode& mode) = 0;
  // Takes the output's gradient, adds to those of the inputs and of the parameters.
  virtual void Backward(Tape& tape) = 0;
  // Drops what grows with the batch.
  virtual void Forget() = 0;

 protected:
  // Nobody asks for the gradient of the images.
  static bool NeedsGradient(int node) { return node != 0; }

 private:
  std::vector<int> inputs_;
  int output_;
  int block_;
};

}  // namespace fr
