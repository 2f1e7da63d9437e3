#pragma once
// `fr-data unpack`: the images of a set as files.

#include <filesystem>

#include "common/base/work_report.h"
#include "worker/data/training_set.h"
#include "worker/data/verification/verification_set.h"

namespace fr {

struct UnpackOptions {
  int threads = 1;
  WorkReport report;  // images
};

// Writes `out`/IDENTITY/KEY.jpg (or png, pgm, ppm), the bytes as the set stores them. IDENTITY is
// the name in the set's identities.txt, as SafeFileName makes it, else the label; KEY is the key in
// train.idx, of other layouts the number of the image. Files that are there already are left as
// they are: a run that was stopped goes on when it is called again. Throws
// Error(kFailedPrecondition) if one of them has other bytes than the set, Error(kDataLoss) for a
// damaged set, Error(kIo | kResourceExhausted).
void UnpackTrainingSet(const TrainingSet& set, const std::filesystem::path& out,
                       const UnpackOptions& options);

// Writes `out`/NUMBER.jpg, images 2i and 2i + 1 being pair i, and, when all are there,
// `out`/pairs.csv with the columns first, second, same (1: one identity). Otherwise the same.
void UnpackVerificationSet(const VerificationSet& set, const std::filesystem::path& out,
                           const UnpackOptions& options);

}  // namespace fr
