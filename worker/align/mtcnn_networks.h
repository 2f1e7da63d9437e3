#pragma once
// The three networks of MTCNN (Zhang et al. 2016, "Joint Face Detection and Alignment using
// Multi-task Cascaded Convolutional Networks"), with the weights that facenet-pytorch publishes.

#include <filesystem>
#include <string>
#include <unordered_map>

#include <ATen/core/Tensor.h>

namespace fr {

// Of n windows; float32.
struct WindowsOutput {
  at::Tensor face;     // probability that it is one: [n], of P-Net [n, h, w]
  at::Tensor offsets;  // of the box, relative to its size, left, top, right, bottom: [n, 4, ...]
  at::Tensor points;   // five x, five y, relative to the box: [n, 10]; of O-Net alone
};

// Takes images as AreaMean writes them: [n, 3, h, w]. Any number of threads may run the networks.
class MtcnnNetworks {
 public:
  // Reads pnet.pt, rnet.pt and onet.pt, state dicts. Throws Error(kNotFound) that says how to get
  // them, Error(kDataLoss) for files that are damaged or of other networks.
  explicit MtcnnNetworks(const std::filesystem::path& directory);

  // Windows of 12 x 12 pixels, every 2 pixels: h and w at least 12.
  WindowsOutput Propose(const at::Tensor& images) const;
  // 24 x 24 pixels.
  WindowsOutput Refine(const at::Tensor& images) const;
  // 48 x 48 pixels.
  WindowsOutput Output(const at::Tensor& images) const;

 private:
  using Weights = std::unordered_map<std::string, at::Tensor>;

  Weights pnet_;
  Weights rnet_;
  Weights onet_;
};

}  // namespace fr
