#pragma once
// One training step of a face-recognition network, in two ways: ours, and the straightforward one.

#include <functional>
#include <memory>

#include <torch/torch.h>

#include "bench/measure.h"
#include "common/networks/network.h"
#include "worker/gpu/gpu.h"

namespace fr {

class Communicator;

struct TrainSetting {
  NetworkOptions network;
  std::int64_t identities = 0;
  std::int64_t batch = 0;  // images of a rank
  bool bf16 = false;
};

// Seconds that the parts of a step took on this rank.
struct StepTimes {
  // In: a part ends when the GPU has done it, which costs time. Else, on a GPU, when the host has
  // given the work away: the parts then say little.
  bool until_done = false;
  double forward = 0;   // backbone
  double head = 0;      // from embeddings to their gradients; ours moves the rows at once
  double backward = 0;  // backbone
  double reduce = 0;    // the backbone's gradients, over the ranks
  double update = 0;    // what else is updated: ours the backbone, the reference both
};

// Of a part of a step.
inline double PartSeconds(const StepTimes& times, const std::function<void()>& part) {
  return Seconds([&] {
    part();
    if (times.until_done && ProcessGpu() != nullptr) ProcessGpu()->Synchronize();
  });
}

// SGD with momentum 0.9, weight decay 5e-4, gradients' norm clipped at 5; ArcFace of margin 0.5 and
// scale 64; identities in equal ranges over the ranks.
class TrainCandidate {
 public:
  virtual ~TrainCandidate() = default;
  // `images` [batch, 3, 112, 112] float32 on ComputeDevice(), `labels` [batch] int64 on the
  // processor. Returns the loss of the global batch. Collective.
  virtual double Step(const at::Tensor& images, const at::Tensor& labels, StepTimes* times) = 0;
};

// This service's parts, put together as the trainer does.
std::unique_ptr<TrainCandidate> MakeOwn(const TrainSetting& setting, Communicator& comm);

// What a PyTorch program of today does (arcface_torch's train_v2.py and partial_fc_v2.py, on one
// processor kind and with one all-reduce): autograd through the backbone, embeddings and labels
// gathered, logits of the rank's identities materialised from normalised weights, a softmax over
// the ranks, autograd back, one all-reduce of the backbone's gradients, torch.optim.SGD over
// everything. bf16: autocast, in channels-last layout.
std::unique_ptr<TrainCandidate> MakeReference(const TrainSetting& setting, Communicator& comm);

}  // namespace fr
