#include <vector>

#include "bench/measure.h"
#include "bench/train_candidates.h"
#include "worker/backbones/run/backbone.h"
#include "worker/comm/communicator.h"
#include "worker/heads/margin_head.h"
#include "worker/optim/sgd.h"

namespace fr {
namespace {

constexpr double kLr = 1e-4;

TrainingOptions BackboneOptions(const TrainSetting& setting) {
  TrainingOptions options;
  if (setting.bf16) options.precision = at::kBFloat16;
  return options;
}

MarginHeadOptions OwnHead(const TrainSetting& setting) {
  MarginHeadOptions options;
  options.shard.embedding_size = setting.network.embedding_size;
  options.shard.bf16_products = setting.bf16;
  return options;
}

IdentityRange OwnRange(const TrainSetting& setting, const Communicator& comm) {
  const std::int64_t world = comm.world_size();
  return {setting.identities * comm.rank() / world, setting.identities * (comm.rank() + 1) / world};
}

class Own final : public TrainCandidate {
 public:
  Own(const TrainSetting& setting, Communicator& comm)
      : comm_(comm),
        rows_(comm.world_size(), setting.batch),
        backbone_(setting.network, BackboneOptions(setting), 1),
        optimizer_({0.9, 5e-4, 5}, backbone_.parameters().values().numel()),
        head_(OwnHead(setting), OwnRange(setting, comm), comm) {}

  double Step(const at::Tensor& images, const at::Tensor& labels, StepTimes* times) override {
    at::Tensor embeddings;
    HeadStepResult result;
    FlatParameters& parameters = backbone_.parameters();
    times->forward = Seconds([&] { embeddings = backbone_.Forward(images); });
    times->head = Seconds([&] { result = head_.Step(embeddings, labels, rows_, kLr); });
    times->backward = Seconds([&] { backbone_.Backward(result.embedding_gradients); });
    times->reduce = Seconds([&] { comm_.AllReduceSum(parameters.gradients()); });
    times->update =
        Seconds([&] { optimizer_.Step(parameters.values(), parameters.gradients(), kLr); });
    return result.loss;
  }

 private:
  Communicator& comm_;
  std::vector<std::int64_t> rows_;
  Backbone backbone_;
  Sgd optimizer_;
  MarginHead head_;
};

}  // namespace

std::unique_ptr<TrainCandidate> MakeOwn(const TrainSetting& setting, Communicator& comm) {
  return std::make_unique<Own>(setting, comm);
}

}  // namespace fr
