#include "worker/model/import.h"

#include <charconv>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/version.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/model/foreign_model.h"
#include "worker/model/host_tensors.h"
#include "worker/weights/torch_file.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

using Tensors = std::map<std::string, at::Tensor>;

// Of a file, before it is made a Model.
struct Imported {
  ModelSpec spec;
  Tensors tensors;
  std::optional<Preprocessing> preprocessing;  // what the file says
  Preprocessing assumed;                       // where it says nothing
  Metadata provenance;
};

// Names that end alike are compared in lower case: "MODEL.ONNX".
Imported FromStateDict(Tensors tensors, const NetworkHints& hints, const std::string& what) {
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const auto& [name, tensor] : tensors) shapes[name] = tensor.sizes().vec();
  Imported imported;
  imported.spec = FindNetworkByTensors(shapes, hints, what);
  for (auto& item : tensors) {
    if (item.second.dim() == 1 && item.first.ends_with(".num_batches_tracked")) {
      item.second = item.second.squeeze(0);
    }
  }
  imported.tensors = std::move(tensors);
  return imported;
}

Imported ImportTorch(const fs::path& path, const NetworkHints& hints) {
  Tensors tensors;
  for (const auto& [name, tensor] : ReadTorchStateDict(path)) tensors[name] = ToTensor(tensor);
  Imported imported = FromStateDict(std::move(tensors), hints, path.string());
  imported.provenance["format"] = "PyTorch state dict";
  return imported;
}

Imported ImportSafetensors(const fs::path& path, const NetworkHints& hints) {
  const SafetensorsFile file(path);
  Imported imported = FromStateDict(file.ReadAll(), hints, path.string());
  imported.provenance["format"] = "safetensors";
  if (IsModelMetadata(file.metadata())) {
    const ModelInfo info = FromMetadata(file.metadata(), path.string());
    imported.preprocessing = info.preprocessing;
    imported.provenance = info.provenance;
  }
  return imported;
}

Imported FromForeign(ForeignModel model) {
  Imported imported;
  imported.spec = std::move(model.spec);
  for (const auto& [name, tensor] : model.tensors) imported.tensors[name] = ToTensor(tensor);
  imported.preprocessing = model.preprocessing;
  return imported;
}

Imported ImportOnnx(const fs::path& path, const NetworkHints& hints) {
  ForeignModel model = ReadOnnxModel(path, hints);
  const Metadata metadata = std::move(model.metadata);
  Imported imported = FromForeign(std::move(model));
  if (IsModelMetadata(metadata)) {
    imported.provenance = FromMetadata(metadata, path.string()).provenance;
  }
  imported.provenance["format"] = "ONNX";
  return imported;
}

// The number in "<prefix>-0012.params"; nothing for other names.
std::optional<std::int64_t> EpochOf(const std::string& file, const std::string& prefix) {
  constexpr std::string_view kEnd = ".params";
  if (!file.starts_with(prefix + "-") || !file.ends_with(kEnd)) return std::nullopt;
  const std::size_t begin = prefix.size() + 1;
  if (file.size() <= begin + kEnd.size()) return std::nullopt;
  const char* const end = file.data() + file.size() - kEnd.size();
  std::int64_t epoch = 0;
  const auto [stop, error] = std::from_chars(file.data() + begin, end, epoch);
  if (error != std::errc() || stop != end) return std::nullopt;
  return epoch;
}

// Of `epoch`, or of the newest there is.
fs::path FindParams(const fs::path& prefix, std::optional<std::int64_t> epoch) {
  const fs::path directory = prefix.has_parent_path() ? prefix.parent_path() : fs::path(".");
  std::optional<std::pair<std::int64_t, fs::path>> newest;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    const auto found = EpochOf(entry.path().filename().string(), prefix.filename().string());
    if (!found || (epoch && *found != *epoch)) continue;
    if (!newest || *found > newest->first) newest = {*found, entry.path()};
  }
  if (newest) return newest->second;
  throw Error(ErrorCode::kNotFound,
              fmt::format("{}-{}.params: no such file; name the parameters with --params",
                          prefix.string(), epoch ? fmt::format("{:04}", *epoch) : "NNNN"));
}

constexpr std::string_view kSymbolEnd = "-symbol.json";

struct MxnetFiles {
  fs::path symbol;
  fs::path params;
};

// Of NAME-symbol.json, NAME, or NAME,12; nothing if there is no such symbol.
std::optional<MxnetFiles> FindMxnet(const fs::path& source, const fs::path& params) {
  std::string prefix = source.string();
  std::optional<std::int64_t> epoch;
  if (prefix.ends_with(kSymbolEnd)) {
    prefix.resize(prefix.size() - kSymbolEnd.size());
  } else if (const std::size_t comma = prefix.rfind(','); comma != std::string::npos) {
    std::int64_t number = 0;
    const char* const end = prefix.data() + prefix.size();
    const auto [stop, error] = std::from_chars(prefix.data() + comma + 1, end, number);
    if (error != std::errc() || stop != end) return std::nullopt;
    epoch = number;
    prefix.resize(comma);
  }
  const fs::path symbol = prefix + std::string(kSymbolEnd);
  if (!fs::is_regular_file(symbol)) return std::nullopt;
  return MxnetFiles{symbol, params.empty() ? FindParams(prefix, epoch) : params};
}

Imported ImportMxnet(const MxnetFiles& files, const NetworkHints& hints) {
  Imported imported = FromForeign(ReadMxnetModel(files.symbol, files.params, hints));
  imported.assumed = {0, 1};
  imported.provenance = {{"format", "MXNet"}, {"params", files.params.filename().string()}};
  return imported;
}

Imported ImportAny(const fs::path& source, const ImportOptions& options) {
  if (const auto mxnet = FindMxnet(source, options.params)) {
    return ImportMxnet(*mxnet, options.hints);
  }
  if (!fs::exists(source)) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{0}: no such file, nor is there an MXNet model {0}{1}",
                            source.string(), kSymbolEnd));
  }
  const std::string extension = LowerExtension(source);
  if (extension == ".onnx") return ImportOnnx(source, options.hints);
  if (extension == ".safetensors") return ImportSafetensors(source, options.hints);
  for (const char* const torch : {".pt", ".pth", ".bin", ".ckpt"}) {
    if (extension == torch) return ImportTorch(source, options.hints);
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: is no model that can be imported: these are PyTorch's state dicts "
                          "(.pt, .pth), safetensors, ONNX (.onnx) and MXNet's NAME{}",
                          source.string(), kSymbolEnd));
}

Preprocessing ChoosePreprocessing(const Imported& imported, const ImportOptions& options) {
  Preprocessing chosen = imported.preprocessing.value_or(imported.assumed);
  if (options.pixel_mean) chosen.mean = *options.pixel_mean;
  if (options.pixel_std) chosen.std = *options.pixel_std;
  return chosen;
}

void CheckFinite(const NetworkState& state, const fs::path& source) {
  for (const auto& [name, tensor] : state.Named()) {
    if (tensor.is_floating_point() && !tensor.isfinite().all().item<bool>()) {
      throw Error(
          ErrorCode::kDataLoss,
          fmt::format("{}: tensor '{}' has values that are no numbers: the model is damaged, "
                      "or its training diverged",
                      source.string(), name));
    }
  }
}

}  // namespace

std::unique_ptr<Model> ImportModel(const fs::path& source, const ImportOptions& options) {
  Imported imported = ImportAny(source, options);
  ModelInfo info;
  info.spec = imported.spec;
  info.preprocessing = ChoosePreprocessing(imported, options);
  info.provenance = std::move(imported.provenance);
  info.provenance["source"] = ValidUtf8(source.filename().string());
  info.provenance["imported_by"] = fmt::format("fr {}", kVersion);
  auto model = std::make_unique<Model>(std::move(info));
  model->state().Load(imported.tensors, source.string());
  CheckFinite(model->state(), source);
  return model;
}

std::unique_ptr<Model> OpenModel(const fs::path& path) {
  const bool ours =
      fs::is_directory(path) || (LowerExtension(path) == ".safetensors" && fs::exists(path) &&
                                 IsModelMetadata(SafetensorsFile(path).metadata()));
  return ours ? LoadModel(path) : ImportModel(path, {});
}

}  // namespace fr
