#include "worker/backbones/run/network_state.h"

#include <cmath>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/error.h"
#include "worker/comm/communicator.h"
#include "worker/gpu/gpu.h"

namespace fr {
namespace {

std::vector<std::pair<std::string, std::vector<std::int64_t>>> Trained(const Graph& graph) {
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> trained;
  for (const Parameter& parameter : graph.Parameters()) {
    if (parameter.role == Parameter::Role::kTrained) {
      trained.emplace_back(parameter.name, parameter.shape);
    }
  }
  return trained;
}

void DrawOnProcessor(const Init& init, at::Tensor& tensor) {
  switch (init.kind) {
    case Init::Kind::kConstant:
      tensor.fill_(init.value);
      return;
    case Init::Kind::kNormal:
      tensor.normal_(0, init.value);
      return;
    case Init::Kind::kUniform:
      tensor.uniform_(-init.value, init.value);
      return;
    case Init::Kind::kTruncatedNormal: {
      // timm's trunc_normal_: a uniform draw through the normal distribution's quantile function.
      const double edge = 2 / init.value;
      const double low = std::erf(-edge / std::sqrt(2.0));
      tensor.uniform_(low, -low).erfinv_().mul_(init.value * std::sqrt(2.0)).clamp_(-2, 2);
      return;
    }
  }
}

// The same numbers wherever the tensor lies.
void Draw(const Init& init, at::Tensor& tensor) {
  at::Tensor drawn =
      tensor.is_cpu() ? tensor : at::empty_like(tensor, tensor.options().device(at::kCPU));
  DrawOnProcessor(init, drawn);
  if (!tensor.is_cpu()) tensor.copy_(drawn);
}

}  // namespace

at::ScalarType ScalarTypeOf(Precision precision) {
  return precision == Precision::bf16 ? at::kBFloat16 : at::kFloat;
}

NetworkState::NetworkState(const Graph& graph, bool trained) : trained_(Trained(graph), trained) {
  for (const FlatParameters::Entry& entry : trained_.entries()) {
    at::Tensor value = FlatParameters::View(trained_.values(), entry);
    tensors_[entry.name] = value;
    if (!trained) continue;
    value.set_requires_grad(true);
    value.mutable_grad() = FlatParameters::View(trained_.gradients(), entry);
  }
  for (const Parameter& parameter : graph.Parameters()) {
    order_.push_back(parameter.name);
    if (parameter.role == Parameter::Role::kTrained) continue;
    if (parameter.role == Parameter::Role::kRunning) running_.push_back(parameter.name);
    const bool counter = parameter.role == Parameter::Role::kCounter;
    if (parameter.role != Parameter::Role::kFixed) statistics_.push_back(parameter.name);
    tensors_[parameter.name] = at::zeros(
        parameter.shape,
        at::TensorOptions(ComputeDevice()).dtype(counter ? torch::kInt64 : torch::kFloat32));
  }
}

void NetworkState::Initialise(const Graph& graph, std::uint64_t seed) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(seed);
  for (const Parameter& parameter : graph.Parameters()) {
    Draw(parameter.init, tensors_.at(parameter.name));
  }
}

void NetworkState::Load(const std::map<std::string, at::Tensor>& source, const std::string& what) {
  const torch::NoGradGuard no_grad;
  for (auto& [name, tensor] : tensors_) {
    const auto found = source.find(name);
    if (found == source.end()) {
      if (!tensor.is_floating_point()) continue;
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: has no tensor '{}' of this network", what, name));
    }
    if (found->second.sizes() != tensor.sizes()) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: tensor '{}' is [{}] where this network has [{}]", what, name,
                      fmt::join(found->second.sizes(), ", "), fmt::join(tensor.sizes(), ", ")));
    }
    tensor.copy_(found->second);
  }
  for (const auto& item : source) {
    if (!tensors_.contains(item.first)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: tensor '{}' is none of this network's", what, item.first));
    }
  }
}

std::vector<at::Tensor> NetworkState::Of(const Node& node) const {
  std::vector<at::Tensor> tensors;
  for (const Parameter& parameter : node.parameters) tensors.push_back(Get(parameter.name));
  return tensors;
}

const at::Tensor& NetworkState::Get(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw Error(ErrorCode::kInternal, fmt::format("the network has no tensor '{}'", name));
  }
  return found->second;
}

NamedTensors NetworkState::Named() const {
  NamedTensors named;
  for (const std::string& name : order_) named.emplace_back(name, Get(name).detach());
  return named;
}

NamedTensors NetworkState::Statistics() const {
  NamedTensors named;
  for (const std::string& name : statistics_) named.emplace_back(name, Get(name));
  return named;
}

void NetworkState::AverageRunning(Communicator& comm) {
  if (running_.empty()) return;
  std::vector<at::Tensor> flat;
  for (const std::string& name : running_) flat.push_back(Get(name).to(torch::kFloat64));
  at::Tensor all = at::cat(flat);
  comm.AllReduceSum(all);
  all.div_(comm.world_size());
  std::int64_t offset = 0;
  for (const std::string& name : running_) {
    at::Tensor& tensor = tensors_.at(name);
    tensor.copy_(all.slice(0, offset, offset + tensor.numel()));
    offset += tensor.numel();
  }
}

}  // namespace fr
