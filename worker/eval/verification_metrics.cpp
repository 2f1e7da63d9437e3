#include "worker/eval/verification_metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

constexpr int kFolds = 10;

// Pairs of each kind that a threshold accepts (distance < threshold).
struct Accepted {
  std::int64_t same = 0;
  std::int64_t different = 0;
};

// Counts for thresholds 0, step, 2 step, ... below 4, of the pairs [begin, end).
class ThresholdCounts {
 public:
  ThresholdCounts(const std::vector<double>& distances, const std::vector<std::uint8_t>& same,
                  std::size_t begin, std::size_t end, int thresholds, double step)
      : counts_(thresholds) {
    for (std::size_t i = begin; i < end; ++i) {
      // The first threshold above the distance; compared as numpy compares, so no division alone.
      auto first = static_cast<std::int64_t>(std::max(0.0, std::floor(distances[i] / step) - 1));
      while (first < thresholds && !(distances[i] < static_cast<double>(first) * step)) ++first;
      if (first >= thresholds) continue;
      (same[i] ? counts_[first].same : counts_[first].different) += 1;
    }
    for (int t = 1; t < thresholds; ++t) {
      counts_[t].same += counts_[t - 1].same;
      counts_[t].different += counts_[t - 1].different;
    }
    for (std::size_t i = begin; i < end; ++i) (same[i] ? total_.same : total_.different) += 1;
  }

  const Accepted& operator[](int threshold) const { return counts_[threshold]; }
  const Accepted& total() const { return total_; }

 private:
  std::vector<Accepted> counts_;
  Accepted total_;
};

// Counts of all pairs and of each fold, for one grid of thresholds.
struct FoldCounts {
  ThresholdCounts all;
  std::vector<ThresholdCounts> folds;
};

FoldCounts CountFolds(const std::vector<double>& distances, const std::vector<std::uint8_t>& same,
                      int thresholds, double step) {
  const std::size_t pairs = same.size();
  FoldCounts counts{{distances, same, 0, pairs, thresholds, step}, {}};
  std::size_t begin = 0;
  for (std::size_t fold = 0; fold < kFolds; ++fold) {
    // As scikit-learn's KFold: the first (pairs % 10) folds have one more.
    const std::size_t end = begin + pairs / kFolds + (fold < pairs % kFolds ? 1 : 0);
    counts.folds.emplace_back(distances, same, begin, end, thresholds, step);
    begin = end;
  }
  return counts;
}

std::int64_t Correct(const Accepted& accepted, const Accepted& total) {
  return accepted.same + total.different - accepted.different;
}

void FoldAccuracy(const std::vector<double>& distances, const std::vector<std::uint8_t>& same,
                  VerificationMetrics* metrics) {
  constexpr int kThresholds = 400;
  constexpr double kStep = 0.01;
  const FoldCounts counts = CountFolds(distances, same, kThresholds, kStep);
  std::array<double, kFolds> accuracy{};
  for (int fold = 0; fold < kFolds; ++fold) {
    const ThresholdCounts& own = counts.folds[fold];
    int best = 0;
    std::int64_t best_correct = -1;
    for (int t = 0; t < kThresholds; ++t) {
      const std::int64_t correct =
          Correct(counts.all[t], counts.all.total()) - Correct(own[t], own.total());
      if (correct > best_correct) {
        best = t;
        best_correct = correct;
      }
    }
    accuracy[fold] = static_cast<double>(Correct(own[best], own.total())) /
                     static_cast<double>(own.total().same + own.total().different);
    metrics->threshold += best * kStep / kFolds;
  }
  metrics->accuracy = std::accumulate(accuracy.begin(), accuracy.end(), 0.0) / kFolds;
  double squares = 0;
  for (const double a : accuracy) squares += (a - metrics->accuracy) * (a - metrics->accuracy);
  metrics->accuracy_std = std::sqrt(squares / kFolds);
}

double FoldTar(const std::vector<double>& distances, const std::vector<std::uint8_t>& same,
               double target_far) {
  constexpr int kThresholds = 4000;
  const FoldCounts counts = CountFolds(distances, same, kThresholds, 0.001);
  double sum = 0;
  for (const ThresholdCounts& own : counts.folds) {
    const auto train_different =
        static_cast<double>(counts.all.total().different - own.total().different);
    // The largest threshold whose FAR on the nine other folds is at most the target.
    int threshold = 0;
    for (int t = 0; t < kThresholds; ++t) {
      const auto accepted = static_cast<double>(counts.all[t].different - own[t].different);
      if (accepted <= target_far * train_different) threshold = t;
    }
    if (own.total().same > 0) {
      sum += static_cast<double>(own[threshold].same) / static_cast<double>(own.total().same);
    }
  }
  return sum / kFolds;
}

// AUC as the chance that a same pair is closer than a different one, and the EER, from one walk
// over the pairs in order of distance.
void RocFigures(const std::vector<double>& distances, const std::vector<std::uint8_t>& same,
                VerificationMetrics* metrics) {
  std::vector<std::size_t> order(same.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return distances[a] < distances[b]; });
  const auto positives = static_cast<double>(std::count(same.begin(), same.end(), 1));
  const double negatives = static_cast<double>(same.size()) - positives;
  double tpr = 0;
  double fpr = 0;
  double area = 0;
  double eer = -1;
  for (std::size_t i = 0; i < order.size();) {
    double next_tpr = tpr;
    double next_fpr = fpr;
    const double distance = distances[order[i]];
    for (; i < order.size() && distances[order[i]] == distance; ++i) {
      (same[order[i]] ? next_tpr : next_fpr) += 1 / (same[order[i]] ? positives : negatives);
    }
    area += (next_fpr - fpr) * (tpr + next_tpr) / 2;
    // False rejects 1 - tpr fall, false accepts fpr rise: they meet within one of these steps.
    if (eer < 0 && next_fpr >= 1 - next_tpr) {
      const double before = 1 - tpr - fpr;
      const double after = 1 - next_tpr - next_fpr;
      const double share = before == after ? 0 : before / (before - after);
      eer = fpr + share * (next_fpr - fpr);
    }
    tpr = next_tpr;
    fpr = next_fpr;
  }
  metrics->auc = area;
  metrics->eer = eer < 0 ? 1 : eer;
}

void CheckPairs(const std::vector<double>& distances, const std::vector<std::uint8_t>& same) {
  if (distances.size() != same.size() || same.size() < kFolds) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("verification needs at least {} pairs, each with a distance: got {} "
                            "pairs, {} distances",
                            kFolds, same.size(), distances.size()));
  }
  if (!std::all_of(distances.begin(), distances.end(), [](double d) { return std::isfinite(d); })) {
    throw Error(ErrorCode::kInvalidArgument, "verification: a distance is not finite");
  }
  const auto positives = std::count(same.begin(), same.end(), 1);
  if (positives == 0 || positives == static_cast<std::ptrdiff_t>(same.size())) {
    throw Error(ErrorCode::kInvalidArgument,
                "verification needs pairs of one identity and pairs of two");
  }
}

}  // namespace

VerificationMetrics EvaluatePairs(const std::vector<double>& squared_distances,
                                  const std::vector<std::uint8_t>& same) {
  CheckPairs(squared_distances, same);
  VerificationMetrics metrics;
  FoldAccuracy(squared_distances, same, &metrics);
  metrics.tar_at_far_1e3 = FoldTar(squared_distances, same, 1e-3);
  RocFigures(squared_distances, same, &metrics);
  return metrics;
}

}  // namespace fr
