#pragma once
// The margin head as PyTorch programs write it: logits of all identities in memory, autograd
// through them, torch's SGD. ArcFace of margin 0.5 and scale 64.

#include <cmath>

#include <torch/torch.h>

namespace fr {

class HeadReference {
 public:
  struct Options {
    std::int64_t identities = 0;
    std::int64_t dim = 512;
    double lr = 0;
    at::Device device = at::kCPU;
    // The product's operands and its result are bfloat16, as under autocast; all else float32.
    bool bf16 = false;
    // arcface_torch's softmax: in the logits' own memory, with a gradient of its own (its
    // DistCrossEntropy on one rank). Else torch's cross_entropy.
    bool in_place = false;
  };

  explicit HeadReference(const Options& options)
      : options_(options),
        weight_(torch::randn({options.identities, options.dim}, options.device)
                    .mul_(0.01)
                    .requires_grad_()),
        optimizer_({weight_},
                   torch::optim::SGDOptions(options.lr).momentum(0.9).weight_decay(5e-4)) {}

  at::Tensor weight() const { return weight_.detach(); }

  // From embeddings to their gradients and the weights' update. Returns the loss.
  double Step(const at::Tensor& embeddings, const at::Tensor& labels) {
    optimizer_.zero_grad();
    const at::Tensor x = embeddings.detach().requires_grad_();
    at::Tensor logits = Logits(x, labels);
    const double loss = options_.in_place ? InPlace(logits, labels) : CrossEntropy(logits, labels);
    optimizer_.step();
    return loss;
  }

 private:
  at::Tensor Logits(const at::Tensor& x, const at::Tensor& labels) {
    namespace F = torch::nn::functional;
    at::Tensor unit = F::normalize(x);
    at::Tensor rows = F::normalize(weight_);
    if (options_.bf16) unit = unit.to(at::kBFloat16), rows = rows.to(at::kBFloat16);
    const at::Tensor cosine = F::linear(unit, rows).to(at::kFloat).clamp(-1, 1);
    const at::Tensor samples = torch::arange(x.size(0), labels.options());
    const at::Tensor target = cosine.index({samples, labels});
    const at::Tensor sine = (1 - target.square()).clamp_min(1e-12).sqrt();
    const at::Tensor psi =
        torch::where(target > std::cos(M_PI - 0.5), target * std::cos(0.5) - sine * std::sin(0.5),
                     target - 0.5 * std::sin(0.5));
    return cosine.index_put({samples, labels}, psi) * 64;
  }

  static double CrossEntropy(const at::Tensor& logits, const at::Tensor& labels) {
    const at::Tensor loss = torch::nn::functional::cross_entropy(logits, labels);
    loss.backward();
    return loss.item<double>();
  }

  static double InPlace(const at::Tensor& logits, const at::Tensor& labels) {
    const at::Tensor samples = torch::arange(logits.size(0), labels.options());
    at::Tensor p = logits.detach();  // the same memory
    p.sub_(std::get<0>(p.max(1, /*keepdim=*/true))).exp_();
    p.div_(p.sum(1, /*keepdim=*/true));
    const at::Tensor probability = p.index({samples, labels});
    const at::Tensor loss = -probability.clamp_min(1e-30).log().mean();
    p.index_put_({samples, labels}, probability - 1);
    p.div_(p.size(0));
    logits.backward(p);
    return loss.item<double>();
  }

  Options options_;
  at::Tensor weight_;
  torch::optim::SGD optimizer_;
};

}  // namespace fr
