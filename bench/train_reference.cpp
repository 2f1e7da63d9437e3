#include <cmath>
#include <vector>

#include <torch/torch.h>

#include "bench/eager_network.h"
#include "bench/train_candidates.h"
#include "worker/comm/communicator.h"

namespace fr {
namespace {

namespace F = torch::nn::functional;

constexpr double kLr = 1e-4;
constexpr double kScale = 64;
constexpr double kMargin = 0.5;

class Reference final : public TrainCandidate {
 public:
  Reference(const TrainSetting& setting, Communicator& comm)
      : setting_(setting),
        comm_(comm),
        rows_(comm.world_size(), setting.batch),
        first_(setting.identities * comm.rank() / comm.world_size()),
        end_(setting.identities * (comm.rank() + 1) / comm.world_size()),
        graph_(MakeNetwork(setting.network)),
        network_(MakeEager()),
        weight_(torch::randn({end_ - first_, setting.network.embedding_size}, ComputeDevice())
                    .mul_(0.01)),
        optimizer_(Trained(), torch::optim::SGDOptions(kLr).momentum(0.9).weight_decay(5e-4)) {}

  double Step(const at::Tensor& images, const at::Tensor& labels, StepTimes* times) override {
    at::Tensor embeddings;
    at::Tensor gradients;
    double loss = 0;
    times->forward = PartSeconds(*times, [&] { embeddings = network_.Forward(images, true); });
    times->head =
        PartSeconds(*times, [&] { loss = Head(embeddings.detach(), labels, &gradients); });
    times->backward = PartSeconds(*times, [&] { embeddings.backward(gradients); });
    times->reduce = PartSeconds(*times, [&] { ReduceGradients(); });
    times->update = PartSeconds(*times, [&] {
      torch::nn::utils::clip_grad_norm_(network_.trained(), 5);
      optimizer_.step();
      optimizer_.zero_grad();
    });
    return loss;
  }

 private:
  EagerNetwork MakeEager() {
    NetworkState state(graph_);
    state.Initialise(graph_, 1);
    return {graph_, state,
            setting_.bf16 ? EagerNetwork::Kind::kAutocast : EagerNetwork::Kind::kEager};
  }

  std::vector<at::Tensor> Trained() {
    std::vector<at::Tensor> tensors = network_.trained();
    weight_.requires_grad_();
    tensors.push_back(weight_);
    return tensors;
  }

  // Of this rank's identities, [global batch, n] float32, of which `samples` at `targets` have a
  // margin.
  at::Tensor Logits(const at::Tensor& x, const at::Tensor& samples, const at::Tensor& targets) {
    at::Tensor unit = F::normalize(x);
    at::Tensor rows = F::normalize(weight_);
    // As autocast would: the operands in bfloat16, and so the logits.
    if (setting_.bf16) unit = unit.to(at::kBFloat16), rows = rows.to(at::kBFloat16);
    const at::Tensor cosine = F::linear(unit, rows).to(at::kFloat).clamp(-1, 1);
    const at::Tensor target = cosine.index({samples, targets});
    const at::Tensor sine = (1 - target.square()).clamp_min(1e-12).sqrt();
    const at::Tensor psi = torch::where(target > std::cos(M_PI - kMargin),
                                        target * std::cos(kMargin) - sine * std::sin(kMargin),
                                        target - kMargin * std::sin(kMargin));
    return cosine.index_put({samples, targets}, psi) * kScale;
  }

  // Into `logits` their gradients: the softmax over all ranks less one at the targets, over B.
  double Softmax(at::Tensor& logits, const at::Tensor& samples, const at::Tensor& targets) {
    at::Tensor largest = std::get<0>(logits.max(1, /*keepdim=*/true)).contiguous();
    comm_.AllReduceMax(largest);
    logits.sub_(largest).exp_();
    at::Tensor sum = logits.sum(1, /*keepdim=*/true);
    comm_.AllReduceSum(sum);
    logits.div_(sum);
    const at::Tensor probability = logits.index({samples, targets});
    at::Tensor loss = -probability.clamp_min(1e-30).log().sum().to(at::kDouble).view({1});
    comm_.AllReduceSum(loss);
    logits.index_put_({samples, targets}, probability - 1);
    logits.div_(logits.size(0));
    return loss.item<double>() / static_cast<double>(logits.size(0));
  }

  double Head(const at::Tensor& own, const at::Tensor& own_labels, at::Tensor* gradients) {
    at::Tensor x = comm_.AllGatherRows(own.contiguous(), rows_).requires_grad_();
    const at::Tensor labels = comm_.AllGatherRows(own_labels.to(own.device()), rows_);
    const at::Tensor samples = ((labels >= first_) & (labels < end_)).nonzero().squeeze(1);
    const at::Tensor targets = labels.index({samples}) - first_;
    const at::Tensor logits = Logits(x, samples, targets);
    at::Tensor by_logits = logits.detach();  // the same memory, as arcface_torch does it in place
    const double loss = Softmax(by_logits, samples, targets);
    logits.backward(by_logits);
    *gradients = comm_.ReduceScatterRows(x.grad(), rows_);
    return loss;
  }

  void ReduceGradients() {
    if (comm_.world_size() == 1) return;
    std::vector<at::Tensor> parts;
    for (const at::Tensor& tensor : network_.trained())
      parts.push_back(tensor.grad().reshape({-1}));
    at::Tensor flat = at::cat(parts);
    comm_.AllReduceSum(flat);
    std::int64_t offset = 0;
    for (const at::Tensor& tensor : network_.trained()) {
      at::Tensor gradient = tensor.grad();
      gradient.copy_(flat.slice(0, offset, offset + tensor.numel()).view(tensor.sizes()));
      offset += tensor.numel();
    }
  }

  TrainSetting setting_;
  Communicator& comm_;
  std::vector<std::int64_t> rows_;
  std::int64_t first_;
  std::int64_t end_;
  Graph graph_;
  EagerNetwork network_;
  at::Tensor weight_;
  torch::optim::SGD optimizer_;
};

}  // namespace

std::unique_ptr<TrainCandidate> MakeReference(const TrainSetting& setting, Communicator& comm) {
  return std::make_unique<Reference>(setting, comm);
}

}  // namespace fr
