#include "worker/model/export.h"

#include <sstream>

#include <nlohmann/json.hpp>

#include "common/base/file.h"
#include "worker/backbones/run/torch_script.h"
#include "worker/model/host_tensors.h"
#include "worker/model/onnx_export.h"

namespace fr {
namespace {

constexpr const char* kMetadataFile = "fr.json";

std::string TorchScriptBytes(const Model& model) {
  const torch::jit::Module module = MakeTorchScript(model.graph(), model.state());
  torch::jit::ExtraFilesMap extra;
  extra[kMetadataFile] = nlohmann::json(ToMetadata(model.info())).dump();
  std::ostringstream stream;
  module.save(stream, extra);
  return std::move(stream).str();
}

}  // namespace

std::optional<ExportFormat> FormatOf(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".safetensors") return ExportFormat::kSafetensors;
  if (extension == ".pt") return ExportFormat::kTorchScript;
  if (extension == ".onnx") return ExportFormat::kOnnx;
  return std::nullopt;
}

void ExportModel(const Model& model, const std::filesystem::path& path, ExportFormat format,
                 bool fold) {
  switch (format) {
    case ExportFormat::kSafetensors:
      return SaveModel(model, path);
    case ExportFormat::kTorchScript:
      return WriteFileAtomically(path, TorchScriptBytes(model));
    case ExportFormat::kOnnx: {
      const TensorSource tensors = [&model](const std::string& name) {
        return ToHostTensor(model.state().Get(name));
      };
      return WriteFileAtomically(path, ToOnnx(model.graph(), tensors, model.info(), {fold}));
    }
  }
}

}  // namespace fr
