#pragma once
// Face verification by the protocol of LFW as InsightFace runs it. Pure; no LibTorch.

#include <cstdint>
#include <vector>

namespace fr {

struct VerificationMetrics {
  double accuracy = 0;        // mean over the ten folds, 0..1
  double accuracy_std = 0;    // population standard deviation over the folds
  double threshold = 0;       // squared distance; mean over folds
  double auc = 0;             // area under the ROC curve; ties count half
  double eer = 0;             // where false accepts = false rejects, linearly interpolated
  double tar_at_far_1e3 = 0;  // mean over folds: the largest of the thresholds 0..4
                              // step 0.001 whose FAR on the nine other folds is <= 1e-3
};

// `squared_distances[i]` (0..4) of pair i, `same[i]` whether it shows one identity. Ten folds in
// order, as scikit-learn's KFold(10, shuffle=False) makes them; thresholds 0..4 step 0.01, the
// first of those that are best on nine folds is used on the tenth. Throws Error(kInvalidArgument)
// for fewer than ten pairs, unequal lengths, distances that are not finite, or only one kind of
// pair.
VerificationMetrics EvaluatePairs(const std::vector<double>& squared_distances,
                                  const std::vector<std::uint8_t>& same);

}  // namespace fr
