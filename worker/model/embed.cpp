#include "worker/model/embed.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/images/image.h"
#include "worker/train/network_input.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

void AppendFolder(const fs::path& folder, std::vector<std::string>* files) {
  const std::size_t before = files->size();
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && IsPictureName(entry.path()))
      files->push_back(entry.path().string());
  }
  if (files->size() == before) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: no pictures in it (.jpg, .jpeg, .png, .pgm, .ppm)", folder.string()));
  }
  std::sort(files->begin() + static_cast<std::ptrdiff_t>(before), files->end());
}

void AppendPicture(const std::string& file, Batch* batch) {
  Image image;
  const std::string bytes = ReadFile(file);
  try {
    image = DecodeImage(bytes);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", file, error.what()));
  }
  if (image.height != kImageSide || image.width != kImageSide) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{0}: is {1} x {2} pixels; networks take faces that are aligned and "
                            "cropped to {3} x {3}: do that first",
                            file, image.width, image.height, kImageSide));
  }
  batch->images.insert(batch->images.end(), image.pixels.begin(), image.pixels.end());
  batch->labels.push_back(0);
}

}  // namespace

EmbedFunction MakeEmbedFunction(const Model& model, const InferenceOptions& options) {
  const auto plan = std::make_shared<InferencePlan>(model.graph(), model.state(), options);
  return [plan, preprocessing = model.info().preprocessing](const Batch& batch) {
    return plan->Run(NetworkInput(batch, preprocessing)).cpu();
  };
}

std::vector<std::string> ExpandPictures(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    if (fs::is_directory(path)) {
      AppendFolder(path, &files);
    } else if (fs::exists(path)) {
      files.push_back(path);
    } else {
      throw Error(ErrorCode::kNotFound, fmt::format("{}: no such file or directory", path));
    }
  }
  return files;
}

at::Tensor EmbedPictures(const EmbedFunction& embed, const std::vector<std::string>& files,
                         const PictureOptions& options) {
  std::vector<at::Tensor> parts;
  for (std::size_t begin = 0; begin < files.size();) {
    const std::size_t end = std::min(files.size(), begin + static_cast<std::size_t>(options.batch));
    Batch batch{kImageSide, kImageSide, {}, {}};
    for (std::size_t i = begin; i < end; ++i) AppendPicture(files[i], &batch);
    parts.push_back(options.mirror ? EmbedBothWays(embed, std::move(batch)) / 2 : embed(batch));
    begin = end;
    if (options.progress) options.progress(end);
  }
  const at::Tensor all = at::cat(parts);
  if (!options.normalise) return all;
  return torch::nn::functional::normalize(all,
                                          torch::nn::functional::NormalizeFuncOptions().dim(1));
}

}  // namespace fr
