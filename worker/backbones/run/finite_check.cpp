#include "worker/backbones/run/finite_check.h"

#include <fmt/format.h>

namespace fr {
namespace {

bool IsFinite(const at::Tensor& tensor) { return at::isfinite(tensor).all().item<bool>(); }

}  // namespace

void FiniteCheck::Look(const at::Tensor& tensor, const std::string& what) {
  if (first_ || !tensor.defined() || IsFinite(tensor)) return;
  first_ = what;
}

void FiniteCheck::Weights() {
  for (const Parameter& parameter : graph_.Parameters()) {
    // Running statistics have no part in training's values.
    if (parameter.role != Parameter::Role::kTrained && parameter.role != Parameter::Role::kFixed) {
      continue;
    }
    Look(state_.Get(parameter.name), "weight " + parameter.name);
  }
}

void FiniteCheck::Images(const at::Tensor& images) {
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    Look(images[i], fmt::format("input: image {}", i));
  }
}

void FiniteCheck::Value(int node, const at::Tensor& value) {
  Look(value, "forward: " + graph_.node(node).name);
}

void FiniteCheck::Gradient(int node, const at::Tensor& gradient) {
  Look(gradient, "backward: gradient of " + graph_.node(node).name);
}

void FiniteCheck::ParameterGradient(const std::string& name) {
  Look(state_.Get(name).grad(), "backward: gradient of " + name);
}

}  // namespace fr
