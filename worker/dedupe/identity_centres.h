#pragma once
// Where a model sees the identities of a training set.

#include "common/base/work_report.h"
#include "worker/data/training_set.h"
#include "worker/dedupe/centre_file.h"
#include "worker/eval/verifier.h"

namespace fr {

struct CentreOptions {
  int batch = 64;
  int threads = 1;           // that decode
  bool skip_broken = false;  // leave images out that cannot be read, instead of ending
  WorkReport report;         // images
};

// Appends the centres of the identities that `centres` lacks: the mean of the embeddings, each of
// length 1, scaled to length 1 again; zeros for an identity without images. Returns how many broken
// images were left out. Throws Error(kDataLoss) for a broken image, naming it, and for embeddings
// that are no numbers; what was appended before stays.
std::int64_t ComputeCentres(const TrainingSet& set, const EmbedFunction& embed,
                            const CentreOptions& options, CentreFileWriter* centres);

}  // namespace fr
