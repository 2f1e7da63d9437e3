#pragma once
// Networks in ONNX files, as they stand there; foreign_graph.h makes one language of them.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "worker/weights/host_tensor.h"

namespace fr {

namespace onnx {
class ModelProto;
class TensorProto;
}  // namespace onnx

struct OnnxModel {
  std::shared_ptr<const onnx::ModelProto> proto;
  HostTensors initializers;  // of proto->graph(), which they refer to
  std::int64_t opset = 0;    // version of the standard operators
  std::map<std::string, std::string> metadata;
};

// Reads a model. External data is read if it lies in a file in the model's own directory. Throws
// Error(kNotFound), Error(kIo), and Error(kDataLoss) for a damaged file, tensors of types that
// HostTensor does not have or whose data does not fit their shape, and external data elsewhere.
OnnxModel ReadOnnx(const std::filesystem::path& path);

// A tensor inside `model`, not external: an attribute's. Throws Error(kDataLoss).
HostTensor TensorOf(const onnx::TensorProto& tensor,
                    const std::shared_ptr<const onnx::ModelProto>& model);

}  // namespace fr
