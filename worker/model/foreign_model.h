#pragma once
// Models of MXNet and ONNX as ours: which network they are, and its tensors.

#include <filesystem>
#include <map>
#include <string>

#include "common/networks/preprocessing.h"
#include "proto/job.pb.h"
#include "worker/model/find_network.h"
#include "worker/weights/host_tensor.h"

namespace fr {

struct ForeignModel {
  ModelSpec spec;
  std::map<std::string, HostTensor> tensors;  // of all our parameters but the counters
  // What the model's own first nodes do with pixels 0..255; nothing if it has none.
  std::optional<Preprocessing> preprocessing;
  std::map<std::string, std::string> metadata;  // the file's own, ONNX
};

// Tries the networks that `hints` leave open. Throws Error(kInvalidArgument) that says which came
// closest and where the two differ, and the readers' own errors.
ForeignModel ReadMxnetModel(const std::filesystem::path& symbol,
                            const std::filesystem::path& params, const NetworkHints& hints);
ForeignModel ReadOnnxModel(const std::filesystem::path& path, const NetworkHints& hints);

}  // namespace fr
