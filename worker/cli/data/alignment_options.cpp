#include "worker/cli/data/alignment_options.h"

#include <fmt/format.h>

#include "common/base/checksum.h"
#include "common/base/file.h"
#include "worker/cli/data/engine_commands.h"
#include "worker/data/images/landmarks.h"

namespace fr {

FindPoints AlignmentOptions::Open() const {
  return landmarks.empty() ? OpenMtcnn(mtcnn) : PointsOf(ReadLandmarks(landmarks));
}

std::string AlignmentOptions::Fingerprint() const {
  if (landmarks.empty()) return "align mtcnn " + MtcnnFingerprint(mtcnn);
  return fmt::format("align {:016x}", ChecksumOf(ReadFile(landmarks)));
}

void AddAlignmentOptions(CLI::App* command, AlignmentOptions* options) {
  auto* landmarks = command->add_option(
      "--landmarks", options->landmarks,
      "Five points of every picture: lines 'path,x1,y1,...,x5,y5', or JSON; without it, MTCNN");
  command
      ->add_option("--mtcnn", options->mtcnn,
                   "Directory of pnet.pt, rnet.pt, onet.pt; else FR_MTCNN, or "
                   "~/.local/share/fr/mtcnn (scripts/get-mtcnn)")
      ->excludes(landmarks);
}

}  // namespace fr
