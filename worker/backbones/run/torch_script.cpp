#include "worker/backbones/run/torch_script.h"

#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/error.h"

namespace fr {
namespace {

std::string Ints(const std::array<std::int64_t, 2>& pair) {
  return fmt::format("[{}, {}]", pair[0], pair[1]);
}

const char* Bool(bool value) { return value ? "True" : "False"; }

std::string Value(int node) { return fmt::format("v{}", node); }

// "a.0.weight" as TorchScript reads it: getattr(getattr(self, "a"), "0") and so on.
std::string Attribute(const std::string& path) {
  std::string text = "self";
  std::size_t begin = 0;
  while (begin <= path.size()) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    text = fmt::format("getattr({}, \"{}\")", text, path.substr(begin, end - begin));
    begin = end + 1;
  }
  return text;
}

std::string BiasOf(const Node& node) {
  return node.has_bias() ? Attribute(node.parameters[1].name) : "None";
}

std::string PoolArguments(const Node& node) {
  const Window& w = node.window;
  return fmt::format("{}, {}, {}", Ints(w.kernel), Ints(w.stride), Ints(w.padding));
}

std::string AttentionText(const Node& node, const std::string& x) {
  const std::int64_t d = node.shape[1];
  const std::string parts =
      fmt::format("{0}.view([{0}.size(0), {1}, 3, {2}, {3}]).permute([2, 0, 3, 1, 4])", x,
                  node.shape[0], node.heads, d / node.heads);
  return fmt::format(
      "torch.scaled_dot_product_attention({0}[0], {0}[1], {0}[2]).transpose(1, 2).reshape([{1}."
      "size(0), {2}, {3}])",
      parts, x, node.shape[0], d);
}

std::string Expression(const Node& node) {
  const std::string x = Value(node.inputs.at(0));
  const auto parameter = [&](std::size_t i) { return Attribute(node.parameters[i].name); };
  const Window& w = node.window;
  switch (node.op) {
    case Op::kConv:
      return fmt::format("torch.conv2d({}, {}, {}, {}, {}, [1, 1], {})", x, parameter(0),
                         BiasOf(node), Ints(w.stride), Ints(w.padding), node.groups);
    case Op::kBatchNorm:
      return fmt::format("torch.batch_norm({}, {}, {}, {}, {}, False, 0.1, {:e}, False)", x,
                         parameter(0), parameter(1), parameter(2), parameter(3), node.epsilon);
    case Op::kLayerNorm:
      return fmt::format("torch.layer_norm({}, [{}], {}, {}, {:e})", x, node.shape.back(),
                         parameter(0), parameter(1), node.epsilon);
    case Op::kPRelu:
      return fmt::format("torch.prelu({}, {})", x, parameter(0));
    case Op::kRelu:
      return fmt::format("torch.relu({})", x);
    case Op::kRelu6:
      return fmt::format("torch.hardtanh({}, 0.0, 6.0)", x);
    case Op::kSigmoid:
      return fmt::format("torch.sigmoid({})", x);
    case Op::kAdd:
      return fmt::format("torch.add({}, {}, alpha={:e})", x, Value(node.inputs[1]), node.factor);
    case Op::kMultiply:
      return fmt::format("torch.mul({}, {})", x, Value(node.inputs[1]));
    case Op::kConcat: {
      std::vector<std::string> all;
      for (const int input : node.inputs) all.push_back(Value(input));
      return fmt::format("torch.cat([{}], 1)", fmt::join(all, ", "));
    }
    case Op::kSlice:
      return fmt::format("torch.slice({}, 1, {}, {}, 1)", x, node.begin, node.end);
    case Op::kMaxPool:
      return fmt::format("torch.max_pool2d({}, {}, [1, 1], {})", x, PoolArguments(node),
                         Bool(node.ceil_mode));
    case Op::kAveragePool:
      return fmt::format("torch.avg_pool2d({}, {}, {}, {}, None)", x, PoolArguments(node),
                         Bool(node.ceil_mode), Bool(node.count_padding));
    case Op::kGlobalAveragePool:
      return fmt::format("torch.mean({}, [2, 3], True)", x);
    case Op::kFlatten:
      return fmt::format("torch.flatten({}, 1)", x);
    case Op::kLinear:
      return fmt::format("torch.linear({}, {}, {})", x, parameter(0), BiasOf(node));
    case Op::kTokens:
      return fmt::format("torch.transpose(torch.flatten({}, 2), 1, 2)", x);
    case Op::kAddPositions:
      return fmt::format("torch.add({}, {})", x, parameter(0));
    case Op::kAttention:
      return AttentionText(node, x);
    case Op::kInput:
    case Op::kDropout:
    case Op::kDropPath:
    case Op::kHideTokens:
    case Op::kRestoreTokens:
      return x;
  }
  throw Error(ErrorCode::kInternal, "a node of no known kind");
}

std::string ForwardSource(const Graph& graph) {
  std::string source = "def forward(self, images):\n    v0 = images\n";
  for (int i = 1; i <= graph.output(); ++i) {
    source += fmt::format("    {} = {}\n", Value(i), Expression(graph.node(i)));
  }
  return source + fmt::format("    return {}\n", Value(graph.output()));
}

// Modules by path; "" is the whole.
class ModuleTree {
 public:
  ModuleTree() : unit_(std::make_shared<torch::jit::CompilationUnit>()), root_(NewModule()) {}

  void Add(const Parameter& parameter, const at::Tensor& tensor) {
    const std::size_t dot = parameter.name.rfind('.');
    torch::jit::Module owner = dot == std::string::npos ? root_ : At(parameter.name.substr(0, dot));
    const std::string leaf =
        dot == std::string::npos ? parameter.name : parameter.name.substr(dot + 1);
    const bool buffer =
        parameter.role == Parameter::Role::kRunning || parameter.role == Parameter::Role::kCounter;
    owner.register_parameter(leaf, tensor, buffer);
  }

  torch::jit::Module& root() { return root_; }

 private:
  torch::jit::Module NewModule() {
    torch::jit::Module module(c10::QualifiedName("__torch__.fr.Module"), unit_,
                              /*shouldMangle=*/true);
    module.register_attribute("training", c10::BoolType::get(), false);
    return module;
  }

  torch::jit::Module At(const std::string& path) {
    const auto found = modules_.find(path);
    if (found != modules_.end()) return found->second;
    const std::size_t dot = path.rfind('.');
    torch::jit::Module parent = dot == std::string::npos ? root_ : At(path.substr(0, dot));
    torch::jit::Module module = NewModule();
    parent.register_module(dot == std::string::npos ? path : path.substr(dot + 1), module);
    modules_.emplace(path, module);
    return module;
  }

  std::shared_ptr<torch::jit::CompilationUnit> unit_;
  torch::jit::Module root_;
  std::map<std::string, torch::jit::Module> modules_;
};

}  // namespace

torch::jit::Module MakeTorchScript(const Graph& graph, const NetworkState& state) {
  ModuleTree tree;
  for (const Node& node : graph.nodes()) {
    for (const Parameter& parameter : node.parameters) {
      tree.Add(parameter,
               state.Get(parameter.name).detach().clone(at::MemoryFormat::Contiguous).cpu());
    }
  }
  tree.root().define(ForwardSource(graph));
  return tree.root();
}

}  // namespace fr
