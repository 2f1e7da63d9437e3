#pragma once
// A model as an ONNX file (onnx.ai), for onnxruntime, TensorRT, OpenVINO and InsightFace's tools.

#include <functional>
#include <string>

#include "common/networks/graph.h"
#include "worker/model/model_info.h"
#include "worker/weights/host_tensor.h"

namespace fr {

// Of the file's metadata: whether batch norms are "kept" or "folded".
inline constexpr const char* kOnnxBatchNorms = "batch_norms";
inline constexpr const char* kOnnxBatchNormsKept = "kept";

struct OnnxOptions {
  // Batch norms behind a convolution go into its weights: the same numbers but for rounding.
  // Without it every tensor keeps its name and its bytes.
  bool fold = true;
};

// float32 values of one of our parameters.
using TensorSource = std::function<HostTensor(const std::string& name)>;

// The file's bytes. Input "input.1" [batch, 3, 112, 112], any batch; output "embedding" [batch, d],
// not normalised. With the default preprocessing the input is (x - 127.5) / 127.5; for any other
// the network begins with nodes Sub and Mul and takes x itself, 0..255: InsightFace's ArcFaceONNX
// tells the two apart by these nodes. Operators of set 11, of 17 where layer norms need it; what
// `info` says and kOnnxBatchNorms are the file's metadata. Throws Error(kInvalidArgument) for what
// exceeds the format's 2 GiB.
std::string ToOnnx(const Graph& graph, const TensorSource& tensors, const ModelInfo& info,
                   const OnnxOptions& options);

}  // namespace fr
