#pragma once
// Models that others trained, as ours.

#include <filesystem>
#include <memory>
#include <optional>

#include "worker/model/find_network.h"
#include "worker/model/model.h"

namespace fr {

struct ImportOptions {
  NetworkHints hints;
  std::filesystem::path params;  // MXNet: instead of the newest beside the symbol
  // Instead of what the file says, or is assumed where it says nothing: the default for PyTorch and
  // ONNX, pixels as they are for MXNet.
  std::optional<double> pixel_mean;
  std::optional<double> pixel_std;
};

// `source` is a PyTorch state dict (.pt, .pth, .bin, .ckpt), a safetensors file, an ONNX model, an
// MXNet symbol (NAME-symbol.json), its prefix (NAME) or prefix and epoch (NAME,12). Which network
// it is, its tensors tell. Throws Error(kNotFound), Error(kDataLoss) for damaged files, and
// Error(kInvalidArgument) for what is none of these or no network of ours, saying what came
// closest.
std::unique_ptr<Model> ImportModel(const std::filesystem::path& source,
                                   const ImportOptions& options);

// LoadModel for what is ours, ImportModel for the rest.
std::unique_ptr<Model> OpenModel(const std::filesystem::path& path);

}  // namespace fr
