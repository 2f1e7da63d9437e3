#include "worker/weights/foreign_graph.h"

namespace fr {

const char* ForeignOpName(ForeignOp op) {
  static constexpr const char* kNames[] = {
      "Input",     "Conv",    "BatchNorm",     "PRelu",   "Relu",     "Clip",
      "Sigmoid",   "Add",     "Mul",           "Sub",     "Concat",   "Slice",
      "MaxPool",   "AvgPool", "GlobalAvgPool", "Flatten", "Identity", "Linear",
      "LayerNorm", "Softmax", "Transpose",     "Other"};
  return kNames[static_cast<std::size_t>(op)];
}

const HostTensor* ForeignNode::tensor(const std::string& role) const {
  const auto found = tensors.find(role);
  return found == tensors.end() ? nullptr : &found->second;
}

}  // namespace fr
