#include <memory>
#include <optional>

#include <fmt/format.h>

#include <ATen/Parallel.h>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/align/mtcnn.h"
#include "worker/cli/data/engine_commands.h"

namespace fr {

FindPoints OpenMtcnn(const std::string& directory) {
  at::set_num_threads(1);  // pictures are computed side by side, each by one thread
  const auto mtcnn = std::make_shared<const Mtcnn>(MtcnnDirectory(directory));
  return [mtcnn](const std::string&, const Image& image) -> std::optional<FacePoints> {
    const std::vector<Face> faces = mtcnn->Detect(image);
    const Face* face = MainFace(faces, image.height, image.width);
    if (face == nullptr) return std::nullopt;
    try {
      FitSimilarity(face->points, AlignedPoints(112));
    } catch (const Error&) {
      return std::nullopt;  // a network that finds nonsense
    }
    return face->points;
  };
}

std::string MtcnnFingerprint(const std::string& directory) {
  std::string text;
  for (const char* file : {"pnet.pt", "rnet.pt", "onet.pt"}) {
    text += fmt::format(" {:016x}", ChecksumOf(ReadFile(MtcnnDirectory(directory) / file)));
  }
  return text;
}

}  // namespace fr
