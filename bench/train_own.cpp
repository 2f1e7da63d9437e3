#include <vector>

#include "bench/train_candidates.h"
#include "worker/backbones/run/backbone.h"
#include "worker/comm/gradient_reducer.h"
#include "worker/heads/margin_head.h"
#include "worker/optim/optimizer.h"

namespace fr {
namespace {

constexpr double kLr = 1e-4;
constexpr double kClipNorm = 5;

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
      : rows_(comm.world_size(), setting.batch),
        backbone_(setting.network, BackboneOptions(setting), 1),
        optimizer_(MakeOptimizer(OptimizerSpec(), backbone_.parameters())),
        head_(OwnHead(setting), OwnRange(setting, comm), comm),
        reducer_(backbone_.parameters().gradients(), comm, {}) {}

  double Step(const at::Tensor& images, const at::Tensor& labels, StepTimes* times) override {
    at::Tensor embeddings;
    HeadStepResult result;
    FlatParameters& parameters = backbone_.parameters();
    times->forward = PartSeconds(*times, [&] { embeddings = backbone_.Forward(images); });
    times->head = PartSeconds(*times, [&] { result = head_.Step(embeddings, labels, rows_, kLr); });
    times->backward = PartSeconds(*times, [&] {
      backbone_.Backward(result.embedding_gradients,
                         [&](std::int64_t begin, std::int64_t end) { reducer_.Ready(begin, end); });
    });
    times->reduce = PartSeconds(*times, [&] { reducer_.Finish(); });
    times->update = PartSeconds(*times, [&] {
      const double scale = ClipFactor(GradientNorm(parameters.gradients()), kClipNorm);
      optimizer_->Step(parameters, {kLr, scale, step_++});
    });
    return result.loss;
  }

 private:
  std::vector<std::int64_t> rows_;
  Backbone backbone_;
  std::unique_ptr<Optimizer> optimizer_;
  MarginHead head_;
  GradientReducer reducer_;
  std::int64_t step_ = 0;
};

}  // namespace

std::unique_ptr<TrainCandidate> MakeOwn(const TrainSetting& setting, Communicator& comm) {
  return std::make_unique<Own>(setting, comm);
}

}  // namespace fr
