#include "worker/backbones/run/recorded_passes.h"

#include <utility>

#include "common/base/logging.h"

namespace fr {
namespace {

// Until libraries have chosen their algorithms and made their workspaces.
constexpr int kWarmUpSteps = 3;
// Of the largest value; two runs of the same algorithms may add in another order.
constexpr double kTolerance = 0.02;

bool IsNear(const at::Tensor& a, const at::Tensor& b) {
  const double largest = b.abs().max().item<double>();
  const double difference = (a - b).abs().max().item<double>();
  return difference <= kTolerance * largest;  // false for what is not finite
}

}  // namespace

RecordedPasses::RecordedPasses(TrainingPlan& plan, NetworkState& state, Gpu& gpu,
                               std::int64_t segment_elements)
    : plan_(plan), state_(state), gpu_(gpu), segment_elements_(segment_elements) {
  if (!plan.CanBeRecorded()) phase_ = Phase::kNever;
}

at::Tensor RecordedPasses::Forward(const at::Tensor& images, const Draws& draws) {
  if (phase_ == Phase::kWarmingUp && steps_seen_++ >= kWarmUpSteps) {
    phase_ = Record(images) ? Phase::kRecorded : Phase::kNever;
  }
  replaying_ = phase_ == Phase::kRecorded && images.sizes() == images_.sizes();
  if (!replaying_) return plan_.Forward(images, draws);
  images_.copy_(images);
  forward_->Replay();
  // The next step writes into the same memory.
  return embeddings_.clone();
}

void RecordedPasses::Backward(const at::Tensor& embedding_gradients, const GradientsReady& ready) {
  if (!replaying_) return plan_.Backward(embedding_gradients, ready);
  gradients_.copy_(embedding_gradients);
  Replay(ready);
}

void RecordedPasses::Replay(const GradientsReady& ready) {
  for (Segment& segment : backward_) {
    segment.graph->Replay();
    if (!ready) continue;
    for (const FlatRange& range : segment.ready) ready(range.begin, range.end);
  }
}

std::vector<RecordedPasses::Segment> RecordedPasses::Segments() const {
  std::vector<Segment> segments;
  std::size_t end = plan_.num_steps();
  std::int64_t elements = 0;
  for (std::size_t step = end; step-- > 0;) {
    elements += plan_.ElementsFinalAfter(step);
    if (elements < segment_elements_ && step > 0) continue;
    segments.push_back({step, end, nullptr, {}});
    end = step;
    elements = 0;
  }
  return segments;
}

bool RecordedPasses::RecordGraphs() {
  forward_ = gpu_.Record([&] { embeddings_ = plan_.Forward(images_, {}); });
  if (!forward_) return false;
  gradients_ = at::zeros_like(embeddings_);
  backward_ = Segments();
  for (Segment& segment : backward_) {
    segment.graph = gpu_.Record([&] {
      segment.ready.clear();
      plan_.BackwardSteps(gradients_, segment.begin, segment.end,
                          [&](std::int64_t begin, std::int64_t end) {
                            segment.ready.push_back({begin, end});
                          });
    });
    if (!segment.graph) return false;
  }
  return true;
}

// Of the images at hand, with the embeddings themselves for gradients: as good as any.
RecordedPasses::Outcome RecordedPasses::Expected() {
  at::Tensor& flat = state_.trained().gradients();
  flat.zero_();
  Outcome outcome;
  outcome.embeddings = plan_.Forward(images_, {}).clone();
  plan_.Backward(outcome.embeddings, {});
  outcome.gradients = flat.clone();
  return outcome;
}

bool RecordedPasses::Gives(const Outcome& expected) {
  at::Tensor& flat = state_.trained().gradients();
  flat.zero_();
  forward_->Replay();
  const at::Tensor embeddings = embeddings_.clone();
  gradients_.copy_(expected.embeddings);
  Replay({});
  return IsNear(embeddings, expected.embeddings) && IsNear(flat, expected.gradients);
}

// Leaves gradients and running statistics as they were.
bool RecordedPasses::Record(const at::Tensor& images) {
  const torch::NoGradGuard no_grad;
  at::Tensor& flat = state_.trained().gradients();
  const at::Tensor gradients_before = flat.clone();
  std::vector<at::Tensor> statistics_before;
  for (const auto& named : state_.Statistics()) statistics_before.push_back(named.second.clone());
  images_ = images.clone();

  const Outcome expected = Expected();
  // Graphs have memory of their own: that of the passes so far is not needed beside it.
  gpu_.ReleaseUnused();
  const bool recorded = RecordGraphs();
  if (!recorded) {
    plan_.Abandon();
    spdlog::info("the network's passes run kernel by kernel");
  }
  const bool same = recorded && Gives(expected);
  if (recorded && !same) {
    spdlog::warn(
        "the network's passes as graphs of the GPU do not give what they give kernel by kernel: "
        "they run kernel by kernel, which is right but slower");
  }
  flat.copy_(gradients_before);
  std::size_t i = 0;
  for (auto& named : state_.Statistics()) named.second.copy_(statistics_before[i++]);
  // What cuDNN tried out, and what was compared, is no part of what the steps to come need.
  gpu_.ResetPeak();
  if (same) return true;
  forward_.reset();
  backward_.clear();
  return false;
}

}  // namespace fr
