#include "worker/heads/triplet_mining.h"

#include <limits>

#include "common/base/random.h"

namespace fr {
namespace {

constexpr std::int64_t kNone = -1;

class Anchor {
 public:
  Anchor(const TripletRule& rule, const AnchorView& view, std::span<float> coefficients)
      : rule_(rule),
        view_(view),
        size_(static_cast<std::int64_t>(view.labels.size())),
        coefficients_(coefficients) {}

  bool IsPositive(std::int64_t i) const {
    return view_.labels[i] == view_.labels[view_.place] && i != view_.place;
  }
  bool IsNegative(std::int64_t i) const { return view_.labels[i] != view_.labels[view_.place]; }

  // What the positive `p` demands of negatives: to be farther than this.
  double Reach(std::int64_t p) const { return view_.distances[p] + rule_.margin; }

  void Rank1() {
    std::int64_t nearest = kNone;
    bool has_positive = false;
    for (std::int64_t i = 0; i < size_; ++i) {
      if (i == view_.place) continue;
      has_positive = has_positive || IsPositive(i);
      if (nearest == kNone || view_.distances[i] < view_.distances[nearest]) nearest = i;
    }
    if (!has_positive) return;
    sums_.anchors = 1;
    sums_.nearest_own = IsPositive(nearest) ? 1 : 0;
  }

  void SemiHard() {
    for (std::int64_t p = 0; p < size_; ++p) {
      if (!IsPositive(p)) continue;
      ++sums_.candidates;
      const std::int64_t n = DrawSemiHard(p);
      if (n != kNone) Choose(p, n);
    }
  }

  void Hard() {
    std::int64_t farthest = kNone;
    std::int64_t nearest = kNone;
    for (std::int64_t i = 0; i < size_; ++i) {
      const float distance = view_.distances[i];
      if (IsPositive(i) && (farthest == kNone || distance > view_.distances[farthest])) {
        farthest = i;
      }
      if (IsNegative(i) && (nearest == kNone || distance < view_.distances[nearest])) nearest = i;
    }
    if (farthest == kNone || nearest == kNone) return;
    ++sums_.candidates;
    Choose(farthest, nearest);
  }

  void All() {
    for (std::int64_t p = 0; p < size_; ++p) {
      if (!IsPositive(p)) continue;
      for (std::int64_t n = 0; n < size_; ++n) {
        if (!IsNegative(n)) continue;
        ++sums_.candidates;
        if (view_.distances[n] < Reach(p)) Choose(p, n);
      }
    }
  }

  const TripletSums& sums() const { return sums_; }

 private:
  // Each negative has a number by anchor, positive and itself; of those in the band the lowest
  // wins. So a negative at the band's edge, which rounding lets in on one number of ranks and not
  // on another, changes the draw only where it would have won it.
  std::int64_t DrawSemiHard(std::int64_t p) const {
    const std::uint64_t key =
        MixKeys(rule_.key, static_cast<std::uint64_t>(view_.place), static_cast<std::uint64_t>(p));
    const double reach = Reach(p);
    std::int64_t drawn = kNone;
    std::uint64_t lowest = std::numeric_limits<std::uint64_t>::max();
    for (std::int64_t n = 0; n < size_; ++n) {
      const float distance = view_.distances[n];
      if (!(distance > view_.distances[p] && distance < reach) || !IsNegative(n)) continue;
      const std::uint64_t number = MixKeys(key, static_cast<std::uint64_t>(n));
      if (drawn == kNone || number < lowest) {
        lowest = number;
        drawn = n;
      }
    }
    return drawn;
  }

  void Choose(std::int64_t p, std::int64_t n) {
    ++sums_.chosen;
    const double cost = Reach(p) - view_.distances[n];
    if (!(cost > 0)) return;
    ++sums_.active;
    sums_.loss += cost;
    coefficients_[p] -= 1;
    coefficients_[n] += 1;
  }

  const TripletRule& rule_;
  const AnchorView& view_;
  std::int64_t size_;
  std::span<float> coefficients_;
  TripletSums sums_;
};

}  // namespace

TripletSums& TripletSums::operator+=(const TripletSums& other) {
  loss += other.loss;
  chosen += other.chosen;
  active += other.active;
  candidates += other.candidates;
  anchors += other.anchors;
  nearest_own += other.nearest_own;
  return *this;
}

TripletSums MineAnchor(const TripletRule& rule, const AnchorView& anchor,
                       std::span<float> coefficients) {
  Anchor miner(rule, anchor, coefficients);
  miner.Rank1();
  switch (rule.mining) {
    case TripletMining::kSemiHard:
      miner.SemiHard();
      break;
    case TripletMining::kHard:
      miner.Hard();
      break;
    case TripletMining::kAll:
      miner.All();
      break;
  }
  return miner.sums();
}

}  // namespace fr
