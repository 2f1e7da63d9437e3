#pragma once
// A training plan's passes as graphs of the GPU: recorded once, begun with one call each. A step of
// IR-ResNet-50 is some two thousand kernels, and giving them one by one can take a processor longer
// than a fast GPU needs to run them.

#include <cstdint>
#include <memory>
#include <vector>

#include <torch/torch.h>

#include "worker/backbones/run/network_state.h"
#include "worker/backbones/run/training_plan.h"
#include "worker/gpu/gpu.h"

namespace fr {

// For images of the shape that came first. The first steps, and others than of that shape, run as
// the plan runs them; so does everything if the passes cannot be recorded, or if what was recorded
// does not give what the plan gives, which is looked at once: the log says so.
class RecordedPasses {
 public:
  // All outlive this. The backward pass is cut into graphs of at least `segment_elements` finished
  // gradients, so that their sums over ranks can begin while it goes on.
  RecordedPasses(TrainingPlan& plan, NetworkState& state, Gpu& gpu, std::int64_t segment_elements);

  // TrainingPlan::Forward and Backward.
  at::Tensor Forward(const at::Tensor& images, const Draws& draws);
  void Backward(const at::Tensor& embedding_gradients, const GradientsReady& ready);

 private:
  struct Segment {
    std::size_t begin = 0;  // steps of the plan
    std::size_t end = 0;
    std::unique_ptr<GpuGraph> graph;
    std::vector<FlatRange> ready;  // gradients that are final after it
  };
  struct Outcome {
    at::Tensor embeddings;
    at::Tensor gradients;  // flat
  };
  enum class Phase { kWarmingUp, kRecorded, kNever };

  bool Record(const at::Tensor& images);
  bool RecordGraphs();
  Outcome Expected();
  bool Gives(const Outcome& expected);
  void Replay(const GradientsReady& ready);
  std::vector<Segment> Segments() const;

  TrainingPlan& plan_;
  NetworkState& state_;
  Gpu& gpu_;
  std::int64_t segment_elements_;
  Phase phase_ = Phase::kWarmingUp;
  int steps_seen_ = 0;
  bool replaying_ = false;  // the latest forward pass was a graph's

  std::unique_ptr<GpuGraph> forward_;
  std::vector<Segment> backward_;
  at::Tensor images_;      // what the graphs read
  at::Tensor gradients_;   // of the embeddings, what the graphs read
  at::Tensor embeddings_;  // what they write
};

}  // namespace fr
