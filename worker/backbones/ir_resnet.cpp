#include "worker/backbones/ir_resnet.h"

#include "worker/backbones/batch_norm.h"
#include "worker/backbones/layers.h"
#include "worker/backbones/prelu.h"

namespace fr {
namespace {

// BN - conv3x3 - BN - PReLU - conv3x3(stride) - BN, plus x or (conv1x1(stride) - BN)(x).
class IrBlock : public torch::nn::Module {
 public:
  IrBlock(std::int64_t in, std::int64_t out, std::int64_t stride, Communicator* comm)
      : bn1_(register_module("bn1", std::make_shared<BatchNorm>(in, comm))),
        conv1_(register_module("conv1", MakeConv({in, out, 3, 1, 1}))),
        bn2_(register_module("bn2", std::make_shared<BatchNorm>(out, comm))),
        prelu_(register_module("prelu", std::make_shared<PReluLayer>(out))),
        conv2_(register_module("conv2", MakeConv({out, out, 3, stride, 1}))),
        bn3_(register_module("bn3", std::make_shared<BatchNorm>(out, comm))) {
    if (stride == 1 && in == out) return;
    downsample_ = register_module("downsample", std::make_shared<Chain>());
    downsample_->Add(MakeConv({in, out, 1, stride, 0})).Add(std::make_shared<BatchNorm>(out, comm));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    torch::Tensor y = prelu_->forward(bn2_->forward(conv1_->forward(bn1_->forward(x))));
    y = bn3_->forward(conv2_->forward(y));
    return y + (downsample_ ? downsample_->forward(x) : x);
  }

 private:
  std::shared_ptr<BatchNorm> bn1_;
  std::shared_ptr<torch::nn::Conv2dImpl> conv1_;
  std::shared_ptr<BatchNorm> bn2_;
  std::shared_ptr<PReluLayer> prelu_;
  std::shared_ptr<torch::nn::Conv2dImpl> conv2_;
  std::shared_ptr<BatchNorm> bn3_;
  std::shared_ptr<Chain> downsample_;
};

constexpr std::int64_t kWidths[] = {64, 128, 256, 512};
// 112 halved by each of the four stages.
constexpr std::int64_t kLastSide = 7;

class IrResNet : public Backbone {
 public:
  IrResNet(const std::array<int, 4>& blocks, const BackboneOptions& options)
      : dropout_(options.dropout) {
    Communicator* comm = options.batch_norm_comm;
    conv1_ = register_module("conv1", MakeConv({3, 64, 3, 1, 1}));
    bn1_ = register_module("bn1", std::make_shared<BatchNorm>(64, comm));
    prelu_ = register_module("prelu", std::make_shared<PReluLayer>(64));
    std::int64_t in = 64;
    for (std::size_t stage = 0; stage < blocks.size(); ++stage) {
      auto layer = std::make_shared<Chain>();
      for (int block = 0; block < blocks[stage]; ++block) {
        layer->Add(std::make_shared<IrBlock>(in, kWidths[stage], block == 0 ? 2 : 1, comm));
        in = kWidths[stage];
      }
      layers_.push_back(register_module("layer" + std::to_string(stage + 1), layer));
    }
    bn2_ = register_module("bn2", std::make_shared<BatchNorm>(in, comm));
    fc_ = register_module("fc",
                          torch::nn::Linear(in * kLastSide * kLastSide, options.embedding_size));
    features_ = register_module(
        "features",
        std::make_shared<BatchNorm>(options.embedding_size, comm, /*fixed_weight=*/true));
    for (const auto& module : modules(false)) {
      if (auto* conv = module->as<torch::nn::Conv2dImpl>()) {
        torch::nn::init::normal_(conv->weight, 0, 0.1);
      }
    }
  }

  torch::Tensor forward(const torch::Tensor& images) override {
    torch::Tensor x = prelu_->forward(bn1_->forward(conv1_->forward(images)));
    for (const auto& layer : layers_) x = layer->forward(x);
    x = bn2_->forward(x).flatten(1);
    x = torch::dropout(x, dropout_, is_training());
    return features_->forward(fc_->forward(x));
  }

 private:
  double dropout_;
  std::shared_ptr<torch::nn::Conv2dImpl> conv1_;
  std::shared_ptr<BatchNorm> bn1_;
  std::shared_ptr<PReluLayer> prelu_;
  std::vector<std::shared_ptr<Chain>> layers_;
  std::shared_ptr<BatchNorm> bn2_;
  torch::nn::Linear fc_{nullptr};
  std::shared_ptr<BatchNorm> features_;
};

}  // namespace

std::shared_ptr<Backbone> MakeIrResNet(const std::array<int, 4>& blocks,
                                       const BackboneOptions& options) {
  return std::make_shared<IrResNet>(blocks, options);
}

}  // namespace fr
