#pragma once
// Finds faces and their five points with MTCNN, as facenet-pytorch's detect_face does.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "worker/align/face_boxes.h"
#include "worker/data/images/image.h"

namespace fr {

class Mtcnn {
 public:
  // Reads pnet.pt, rnet.pt and onet.pt. Throws as MtcnnNetworks does.
  explicit Mtcnn(const std::filesystem::path& directory);
  ~Mtcnn();
  Mtcnn(const Mtcnn&) = delete;
  Mtcnn& operator=(const Mtcnn&) = delete;

  // The faces of at least 20 pixels, the best first. Any number of threads may call; one alone uses
  // LibTorch's threads. Two bounds keep odd pictures from taking all memory or hours: scales at
  // which the image has more than 8 million pixels are not searched (of 100 million:
  // faces below 60 pixels), and of each scale the 10,000 best windows are looked at.
  std::vector<Face> Detect(const Image& image) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

// Where the weights are: `option` if it is not empty, else FR_MTCNN, else
// ~/.local/share/fr/mtcnn.
std::filesystem::path MtcnnDirectory(const std::string& option);

}  // namespace fr
