// Triplets: a block for each anchor (triplet_mining.h says what is chosen).

#include "common/base/random.h"
#include "worker/gpu/kernels/kernels.h"
#include "worker/gpu/kernels/rows.h"
#include "worker/heads/triplet_mining.h"

namespace fr::FR_GPU {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr std::int64_t kNone = -1;

// A candidate and what it is measured by: the lowest wins, of equals the one that comes first.
template <class Measure>
struct Candidate {
  Measure measure{};
  std::int64_t place = kNone;

  FR_DEVICE void Offer(const Candidate& other) {
    if (other.place == kNone) return;
    const bool wins = place == kNone || other.measure < measure ||
                      (other.measure == measure && other.place < place);
    if (wins) *this = other;
  }
};

// The best of all threads' candidates, in every thread.
template <class Measure>
FR_DEVICE Candidate<Measure> BestOf(Candidate<Measure> own, char* shared) {
  FR_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) {
    Candidate<Measure> other;
    other.measure = simt::ShuffleXor(own.measure, mask);
    other.place = simt::ShuffleXor(own.place, mask);
    own.Offer(other);
  }
  auto* of_warp = reinterpret_cast<Candidate<Measure>*>(shared);
  if (simt::ThreadX() % 32 == 0) of_warp[simt::ThreadX() / 32] = own;
  simt::SyncThreads();
  Candidate<Measure> best;
  for (int warp = 0; warp < kWarps; ++warp) best.Offer(of_warp[warp]);
  simt::SyncThreads();
  return best;
}

struct Sums {
  double loss = 0;
  double chosen = 0;
  double active = 0;
  double candidates = 0;
  double anchors = 0;
  double nearest_own = 0;
};

class Anchor {
 public:
  FR_DEVICE Anchor(const GpuMining& work, char* shared)
      : work_(work),
        shared_(shared),
        place_(work.first + simt::BlockX()),
        label_(work.labels[place_]),
        distances_(work.distances + simt::BlockX() * work.batch),
        coefficients_(work.coefficients + simt::BlockX() * work.batch) {}

  FR_DEVICE bool IsNegative(std::int64_t i) const { return work_.labels[i] != label_; }
  FR_DEVICE bool IsPositive(std::int64_t i) const { return !IsNegative(i) && i != place_; }
  FR_DEVICE double Reach(std::int64_t p) const {
    return static_cast<double>(distances_[p]) + work_.margin;
  }

  // The place for which `measure` is lowest among those that `fits` takes.
  template <class Measure, class Fits, class Of>
  FR_DEVICE std::int64_t Lowest(const Fits& fits, const Of& measure) const {
    Candidate<Measure> own;
    for (std::int64_t i = simt::ThreadX(); i < work_.batch; i += kThreads) {
      if (!fits(i)) continue;
      Candidate<Measure> one;
      one.measure = measure(i);
      one.place = i;
      own.Offer(one);
    }
    return BestOf(own, shared_).place;
  }

  FR_DEVICE void Rank1() {
    const std::int64_t positive = Lowest<std::int64_t>(
        [&](std::int64_t i) { return IsPositive(i); }, [](std::int64_t i) { return i; });
    if (positive == kNone) return;
    const std::int64_t nearest = Lowest<float>([&](std::int64_t i) { return i != place_; },
                                               [&](std::int64_t i) { return distances_[i]; });
    sums_.anchors = 1;
    sums_.nearest_own = IsPositive(nearest) ? 1 : 0;
  }

  FR_DEVICE void SemiHard() {
    for (std::int64_t p = 0; p < work_.batch; ++p) {
      if (!IsPositive(p)) continue;
      ++sums_.candidates;
      const std::uint64_t key =
          MixKeys(work_.key, static_cast<std::uint64_t>(place_), static_cast<std::uint64_t>(p));
      const double reach = Reach(p);
      const std::int64_t n = Lowest<std::uint64_t>(
          [&](std::int64_t i) {
            return distances_[i] > distances_[p] && static_cast<double>(distances_[i]) < reach &&
                   IsNegative(i);
          },
          [&](std::int64_t i) { return MixKeys(key, static_cast<std::uint64_t>(i)); });
      if (n != kNone) Choose(p, n);
    }
  }

  FR_DEVICE void Hard() {
    const std::int64_t farthest = Lowest<float>([&](std::int64_t i) { return IsPositive(i); },
                                                [&](std::int64_t i) { return -distances_[i]; });
    const std::int64_t nearest = Lowest<float>([&](std::int64_t i) { return IsNegative(i); },
                                               [&](std::int64_t i) { return distances_[i]; });
    if (farthest == kNone || nearest == kNone) return;
    ++sums_.candidates;
    Choose(farthest, nearest);
  }

  // Every thread has its own negatives; the positives' coefficients are summed over the block.
  FR_DEVICE void All() {
    for (std::int64_t p = 0; p < work_.batch; ++p) {
      if (!IsPositive(p)) continue;
      const double reach = Reach(p);
      Sums own;
      for (std::int64_t n = simt::ThreadX(); n < work_.batch; n += kThreads) {
        if (!IsNegative(n)) continue;
        ++own.candidates;
        const double cost = reach - static_cast<double>(distances_[n]);
        if (!(static_cast<double>(distances_[n]) < reach)) continue;
        ++own.chosen;
        if (!(cost > 0)) continue;
        ++own.active;
        own.loss += cost;
        coefficients_[n] += 1;
      }
      sums_.candidates += BlockSum<kWarps>(own.candidates, shared_);
      sums_.chosen += BlockSum<kWarps>(own.chosen, shared_);
      const double active = BlockSum<kWarps>(own.active, shared_);
      sums_.active += active;
      sums_.loss += BlockSum<kWarps>(own.loss, shared_);
      if (simt::ThreadX() == 0) coefficients_[p] -= static_cast<float>(active);
    }
  }

  FR_DEVICE void Store() const {
    if (simt::ThreadX() != 0) return;
    double* out = work_.sums + 6 * simt::BlockX();
    out[0] = sums_.loss;
    out[1] = sums_.chosen;
    out[2] = sums_.active;
    out[3] = sums_.candidates;
    out[4] = sums_.anchors;
    out[5] = sums_.nearest_own;
  }

 private:
  FR_DEVICE void Choose(std::int64_t p, std::int64_t n) {
    ++sums_.chosen;
    const double cost = Reach(p) - static_cast<double>(distances_[n]);
    if (!(cost > 0)) return;
    ++sums_.active;
    sums_.loss += cost;
    if (simt::ThreadX() != 0) return;
    coefficients_[p] -= 1;
    coefficients_[n] += 1;
  }

  const GpuMining& work_;
  char* shared_;
  std::int64_t place_;
  std::int64_t label_;
  const float* distances_;
  float* coefficients_;
  Sums sums_;  // the same in every thread
};

FR_KERNEL(kThreads, 4) MiningKernel(const GpuMining work) {
  Anchor anchor(work, simt::Shared());
  anchor.Rank1();
  switch (static_cast<TripletMining>(work.mining)) {
    case TripletMining::kSemiHard:
      anchor.SemiHard();
      break;
    case TripletMining::kHard:
      anchor.Hard();
      break;
    case TripletMining::kAll:
      anchor.All();
      break;
  }
  anchor.Store();
}

}  // namespace

void Mine(const GpuMining& work, GpuStream stream) {
  simt::Launch("mine", MiningKernel, work, {work.anchors, 1, 1}, kThreads,
               kWarps * static_cast<int>(sizeof(Candidate<std::uint64_t>)), stream);
}

}  // namespace fr::FR_GPU
