#pragma once
// Models for other programs.

#include <filesystem>
#include <optional>
#include <string>

#include "worker/model/model.h"

namespace fr {

enum class ExportFormat { kSafetensors, kTorchScript, kOnnx };

// By the file's extension: .safetensors, .pt, .onnx; nothing for others.
std::optional<ExportFormat> FormatOf(const std::filesystem::path& path);

// Writes `model` to `path`, whole or not at all:
//   kSafetensors  SaveModel
//   kTorchScript  MakeTorchScript, for normalised images; ToMetadata's keys as JSON in the extra
//                 file "fr.json"
//   kOnnx         ToOnnx; batch norms are folded if `fold`
// Throws Error(kIo | kResourceExhausted).
void ExportModel(const Model& model, const std::filesystem::path& path, ExportFormat format,
                 bool fold);

}  // namespace fr
