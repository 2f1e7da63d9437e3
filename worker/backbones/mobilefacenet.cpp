#include "worker/backbones/mobilefacenet.h"

#include "worker/backbones/batch_norm.h"
#include "worker/backbones/layers.h"
#include "worker/backbones/prelu.h"

namespace fr {
namespace {

// A module whose parts lie under the name "layers", as in arcface_torch.
class Layers : public torch::nn::Module {
 public:
  Layers() : chain_(register_module("layers", std::make_shared<Chain>())) {}
  Chain& chain() { return *chain_; }
  torch::Tensor forward(const torch::Tensor& x) { return chain_->forward(x); }

 private:
  std::shared_ptr<Chain> chain_;
};

// conv - BN - PReLU.
std::shared_ptr<Layers> ConvBlock(const ConvShape& shape, Communicator* comm) {
  auto block = std::make_shared<Layers>();
  block->chain()
      .Add(MakeConv(shape))
      .Add(std::make_shared<BatchNorm>(shape.out, comm))
      .Add(std::make_shared<PReluLayer>(shape.out));
  return block;
}

// conv - BN.
std::shared_ptr<Layers> LinearBlock(const ConvShape& shape, Communicator* comm) {
  auto block = std::make_shared<Layers>();
  block->chain().Add(MakeConv(shape)).Add(std::make_shared<BatchNorm>(shape.out, comm));
  return block;
}

// 1x1 up to `groups` channels, depthwise 3x3 with `stride`, 1x1 down to `out`; plus x if residual.
class DepthWise : public Layers {
 public:
  DepthWise(std::int64_t in, std::int64_t out, std::int64_t stride, std::int64_t groups,
            bool residual, Communicator* comm)
      : residual_(residual) {
    chain()
        .Add(ConvBlock({in, groups}, comm))
        .Add(ConvBlock({groups, groups, 3, stride, 1, groups}, comm))
        .Add(LinearBlock({groups, out}, comm));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor y = Layers::forward(x);
    return residual_ ? y + x : y;
  }

 private:
  bool residual_;
};

std::shared_ptr<DepthWise> Down(std::int64_t in, std::int64_t out, std::int64_t groups,
                                Communicator* comm) {
  return std::make_shared<DepthWise>(in, out, 2, groups, false, comm);
}

std::shared_ptr<Layers> Residuals(int blocks, std::int64_t channels, std::int64_t groups,
                                  Communicator* comm) {
  auto layers = std::make_shared<Layers>();
  for (int i = 0; i < blocks; ++i) {
    layers->chain().Add(std::make_shared<DepthWise>(channels, channels, 1, groups, true, comm));
  }
  return layers;
}

struct Flatten : torch::nn::Module {
  torch::Tensor forward(const torch::Tensor& x) { return x.flatten(1); }
};

// Global depthwise convolution 7x7, then the embedding.
std::shared_ptr<Layers> Output(std::int64_t embedding_size, Communicator* comm) {
  auto output = std::make_shared<Layers>();
  output->chain()
      .Add(LinearBlock({512, 512, 7, 1, 0, 512}, comm))
      .Add(std::make_shared<Flatten>())
      .Add(std::make_shared<torch::nn::LinearImpl>(
          torch::nn::LinearOptions(512, embedding_size).bias(false)))
      .Add(std::make_shared<BatchNorm>(embedding_size, comm));
  return output;
}

class MobileFaceNet : public Backbone {
 public:
  explicit MobileFaceNet(const BackboneOptions& options) {
    constexpr std::int64_t kScale = 2;
    constexpr std::int64_t kNarrow = 64 * kScale;
    constexpr std::int64_t kWide = 128 * kScale;
    Communicator* comm = options.batch_norm_comm;
    layers_ = register_module("layers", std::make_shared<Chain>());
    layers_->Add(ConvBlock({3, kNarrow, 3, 2, 1}, comm))
        .Add(ConvBlock({kNarrow, kNarrow, 3, 1, 1, 64}, comm))
        .Add(Down(kNarrow, kNarrow, 128, comm))
        .Add(Residuals(4, kNarrow, 128, comm))
        .Add(Down(kNarrow, kWide, 256, comm))
        .Add(Residuals(6, kWide, 256, comm))
        .Add(Down(kWide, kWide, 512, comm))
        .Add(Residuals(2, kWide, 256, comm));
    conv_sep_ = register_module("conv_sep", ConvBlock({kWide, 512}, comm));
    features_ = register_module("features", Output(options.embedding_size, comm));
    InitialiseWeights();
  }

  torch::Tensor forward(const torch::Tensor& images) override {
    return features_->forward(conv_sep_->forward(layers_->forward(images)));
  }

 private:
  void InitialiseWeights() {
    for (const auto& module : modules(false)) {
      torch::Tensor weight;
      if (auto* conv = module->as<torch::nn::Conv2dImpl>()) weight = conv->weight;
      if (auto* linear = module->as<torch::nn::LinearImpl>()) weight = linear->weight;
      if (weight.defined())
        torch::nn::init::kaiming_normal_(weight, 0, torch::kFanOut, torch::kReLU);
    }
  }

  std::shared_ptr<Chain> layers_;
  std::shared_ptr<Layers> conv_sep_;
  std::shared_ptr<Layers> features_;
};

}  // namespace

std::shared_ptr<Backbone> MakeMobileFaceNet(const BackboneOptions& options) {
  return std::make_shared<MobileFaceNet>(options);
}

}  // namespace fr
