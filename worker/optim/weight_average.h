#pragma once
// The moving average of a network over its training: smoother than any step's weights, and often
// better (Polyak and Juditsky 1992). What validation and export use with train.ema_decay.

#include <cstdint>

#include "worker/backbones/run/network_state.h"

namespace fr {

// After step t (from 0), of every trained weight and running statistic w:
//   a = d a + (1 - d) w,  d = min(decay, (1 + t) / (10 + t))
// The factor grows towards `decay` because with decay itself the random weights of the start would
// stay in the average for 1 / (1 - decay) steps and more, thousands. As it is, the average is of
// about the last tenth of the steps until that is 1 / (1 - decay), and the start's share after t
// steps is at most 1 / C(t + 9, 9), 1e-10 for t = 50. Counters are copied. Parameters that are
// never trained stay as they were taken.
class WeightAverage {
 public:
  // Begins as a copy of `state`, which belongs to `graph`. decay in [0, 1).
  WeightAverage(const Graph& graph, const NetworkState& state, double decay);

  // Takes in the weights after step `step`, in one pass. `state` is of the same graph.
  void Update(const NetworkState& state, std::int64_t step);

  // The average, of which Named() is what a checkpoint keeps: written into them, it goes on.
  // Running statistics that differ by rank do so here, too: AverageRunning() is as right here as
  // there, since a mean over ranks and one over steps may change places.
  NetworkState& average() { return average_; }

 private:
  double decay_;
  NetworkState average_;
};

}  // namespace fr
