#pragma once
// Runs a verification set through a backbone, split over the ranks.

#include <memory>
#include <string>
#include <vector>

#include "proto/metrics.pb.h"
#include "worker/data/verification_set.h"

namespace fr {

class Backbone;
class Communicator;

// Embeds every image of `set` and its mirror image in evaluation mode, adds the two, normalises,
// and evaluates the pairs (EvaluatePairs). Ranks take contiguous parts of the images; every rank
// returns the same result. Collective; `batch` images at a time. The backbone's training mode is as
// it was afterwards. A broken image throws Error(kDataLoss) with set and image number.
ValidationResult Verify(Backbone& backbone, const VerificationSet& set, const std::string& set_name,
                        std::int64_t step, int batch, Communicator& comm);

}  // namespace fr
