#include "worker/model/embed.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <memory>
#include <string_view>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/image.h"
#include "worker/train/network_input.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr int kSide = 112;  // what the networks take

bool IsPicture(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static constexpr std::array<std::string_view, 5> kKnown = {".jpg", ".jpeg", ".png", ".pgm",
                                                             ".ppm"};
  return std::find(kKnown.begin(), kKnown.end(), extension) != kKnown.end();
}

void AppendFolder(const fs::path& folder, std::vector<std::string>* files) {
  const std::size_t before = files->size();
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && IsPicture(entry.path())) files->push_back(entry.path().string());
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
  if (image.height != kSide || image.width != kSide) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{0}: is {1} x {2} pixels; networks take faces that are aligned and "
                            "cropped to {3} x {3}: do that first",
                            file, image.width, image.height, kSide));
  }
  batch->images.insert(batch->images.end(), image.pixels.begin(), image.pixels.end());
  batch->labels.push_back(0);
}

}  // namespace

EmbedFunction MakeEmbedFunction(const Model& model, const InferenceOptions& options) {
  const auto plan = std::make_shared<InferencePlan>(model.graph(), model.state(), options);
  return [plan, preprocessing = model.info().preprocessing](const Batch& batch) {
    return plan->Run(NetworkInput(batch, preprocessing));
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
    Batch batch{kSide, kSide, {}, {}};
    for (std::size_t i = begin; i < end; ++i) AppendPicture(files[i], &batch);
    at::Tensor embeddings = embed(batch);
    if (options.mirror) {
      constexpr std::size_t kImageBytes = std::size_t{kSide} * kSide * 3;
      for (std::size_t at = 0; at < batch.images.size(); at += kImageBytes) {
        FlipHorizontally(kSide, kSide, batch.images.data() + at);
      }
      embeddings = (embeddings + embed(batch)) / 2;
    }
    parts.push_back(embeddings);
    begin = end;
    if (options.progress) options.progress(end);
  }
  const at::Tensor all = at::cat(parts);
  if (!options.normalise) return all;
  return torch::nn::functional::normalize(all,
                                          torch::nn::functional::NormalizeFuncOptions().dim(1));
}

}  // namespace fr
