#pragma once
// Embeddings of pictures, as a model is used.

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "worker/backbones/run/inference_plan.h"
#include "worker/eval/verifier.h"
#include "worker/model/model.h"

namespace fr {

// Runs `model` with its preprocessing. `model` outlives the function; not for two threads at a
// time.
EmbedFunction MakeEmbedFunction(const Model& model, const InferenceOptions& options);

// The pictures (.jpg, .jpeg, .png, .pgm, .ppm) among `paths` and in folders among them, at any
// depth: in the order given, each folder's sorted. Throws Error(kNotFound) for what is not there,
// Error(kInvalidArgument) for folders without pictures.
std::vector<std::string> ExpandPictures(const std::vector<std::string>& paths);

struct PictureOptions {
  int batch = 32;
  bool mirror = true;     // the mean of a picture's and its mirror image's embedding
  bool normalise = true;  // to length 1
  std::function<void(std::size_t done)> progress;  // called after each batch
};

// Embeddings of aligned faces, 112 x 112 pixels: [n, d] float32. Throws Error(kInvalidArgument) for
// pictures of another size, Error(kDataLoss) for those that cannot be read, naming the file.
at::Tensor EmbedPictures(const EmbedFunction& embed, const std::vector<std::string>& files,
                         const PictureOptions& options);

}  // namespace fr
