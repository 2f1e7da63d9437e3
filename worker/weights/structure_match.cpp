#include "worker/weights/structure_match.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/quoted.h"

namespace fr {
namespace {

// More are compared only in networks that were made to be ambiguous.
constexpr std::size_t kMaxPairs = 1 << 20;

bool IsPassedOver(Op op) { return op == Op::kDropout || op == Op::kFlatten || op == Op::kDropPath; }

bool IsPassedOver(ForeignOp op) { return op == ForeignOp::kIdentity || op == ForeignOp::kFlatten; }

bool IsLayer(ForeignOp op) { return op == ForeignOp::kConv || op == ForeignOp::kLinear; }

int SkipTheirs(const ForeignGraph& theirs, int index) {
  while (IsPassedOver(theirs.node(index).op)) index = theirs.node(index).inputs[0];
  return index;
}

std::string PairText(const std::array<std::int64_t, 2>& pair) { return ShapeText(pair); }

// "" if the windows are the same, else how they differ.
std::string WindowDifference(const Window& ours, const ForeignNode& theirs) {
  const auto differs = [](const char* what, const auto& mine, const auto& other) {
    return fmt::format("{} {} instead of {}", what, PairText(other), PairText(mine));
  };
  if (ours.kernel != theirs.kernel) return differs("kernel", ours.kernel, theirs.kernel);
  if (ours.stride != theirs.stride) return differs("stride", ours.stride, theirs.stride);
  if (ours.padding != theirs.pad_begin) return differs("padding", ours.padding, theirs.pad_begin);
  if (ours.padding != theirs.pad_end) {
    return differs("padding at the end", ours.padding, theirs.pad_end);
  }
  constexpr std::array<std::int64_t, 2> kNone = {1, 1};
  if (theirs.dilation != kNone) return differs("dilation", kNone, theirs.dilation);
  return "";
}

std::string TensorDifference(const ForeignNode& theirs, const char* role,
                             const std::vector<std::int64_t>& shape) {
  const HostTensor* tensor = theirs.tensor(role);
  if (tensor == nullptr) return fmt::format("it has no {}", role);
  if (tensor->shape == shape) return "";
  return fmt::format("{} {} instead of {}", role, ShapeText(tensor->shape), ShapeText(shape));
}

// As TensorDifference, for [c] as well as [1, c, 1, 1].
std::string VectorDifference(const ForeignNode& theirs, const char* role, std::int64_t size) {
  const HostTensor* tensor = theirs.tensor(role);
  if (tensor == nullptr) return fmt::format("it has no {}", role);
  if (tensor->numel() == size) return "";
  return fmt::format("{} of {} values instead of {}", role, tensor->numel(), size);
}

class Matcher {
 public:
  Matcher(const Graph& ours, const ForeignGraph& theirs)
      : ours_(ours), theirs_(theirs), use_counts_(ours.UseCounts()) {
    // What takes a convolution's result, if only one does: a batch norm can make up for a bias.
    sole_user_.assign(ours.nodes().size(), -1);
    for (std::size_t i = 0; i < ours.nodes().size(); ++i) {
      for (const int input : ours.nodes()[i].inputs) {
        const auto source = static_cast<std::size_t>(input);
        sole_user_[source] = use_counts_[source] == 1 ? static_cast<int>(i) : -1;
      }
    }
  }

  StructureMatch Run() {
    const Outcome& outcome = Match(ours_.output(), theirs_.output);
    if (!outcome.matches) FailWith(outcome.deviation);
    result_.theirs.assign(ours_.nodes().size(), -1);
    result_.folded.assign(ours_.nodes().size(), false);
    Assign(ours_.output(), theirs_.output);
    return std::move(result_);
  }

 private:
  using Pair = std::pair<int, int>;

  struct Deviation {
    int ours = 0;
    int theirs = 0;
    std::string what;
  };

  struct Outcome {
    bool matches = false;
    bool folded = false;
    std::vector<Pair> inputs;  // the pairs of inputs that match, too
    // Of a pair that does not match: what differs, and how many steps from here that is.
    Deviation deviation;
    std::size_t reach = 0;
  };

  // One way of pairing the inputs.
  struct Attempt {
    std::vector<Pair> inputs;
    std::size_t matching = 0;
    std::size_t reach = 0;             // of those that do not match, together
    const Outcome* nearest = nullptr;  // of these the one that differs soonest
  };

  [[noreturn]] void FailWith(const Deviation& deviation) const {
    const Node& mine = ours_.node(deviation.ours);
    const ForeignNode& other = theirs_.node(deviation.theirs);
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the networks differ at our '{}' ({}), their {} ({}): {}", mine.name,
                            OpName(mine.op), Quoted(other.name), other.foreign_op, deviation.what));
  }

  // Each pair is compared once. The depth of the recursion is at most our graph's.
  const Outcome& Match(int ours, int theirs) {
    ours = SkipOurs(ours_, ours);
    theirs = SkipTheirs(theirs_, theirs);
    const auto known = outcomes_.find({ours, theirs});
    if (known != outcomes_.end()) return known->second;
    if (outcomes_.size() > kMaxPairs) {
      FailWith({ours, theirs, fmt::format("no match among {} pairs of nodes", kMaxPairs)});
    }
    Outcome outcome;
    outcome.deviation = {ours, theirs, Compare(ours, theirs, &outcome)};
    outcome.matches = outcome.deviation.what.empty() && MatchInputs(ours, theirs, &outcome);
    return outcomes_[{ours, theirs}] = std::move(outcome);
  }

  bool MatchInputs(int ours, int theirs, Outcome* outcome) {
    const Node& mine = ours_.node(ours);
    const std::vector<int>& other = theirs_.node(theirs).inputs;
    if (outcome->folded) return Succeeds(Try({{mine.inputs[0], theirs}}), outcome);
    if (mine.op == Op::kAdd || mine.op == Op::kMultiply)
      return MatchEitherOrder(ours, theirs, outcome);
    std::vector<Pair> inputs;
    for (std::size_t i = 0; i < mine.inputs.size(); ++i) {
      inputs.emplace_back(mine.inputs[i], other[i]);
    }
    return Succeeds(Try(std::move(inputs)), outcome);
  }

  // If neither order matches, the one that comes closer is taken for the one that was meant.
  bool MatchEitherOrder(int ours, int theirs, Outcome* outcome) {
    const Node& mine = ours_.node(ours);
    const std::vector<int>& other = theirs_.node(theirs).inputs;
    std::vector<Attempt> attempts;
    for (const bool swapped : {false, true}) {
      std::vector<Pair> inputs = {{mine.inputs[0], other[swapped ? 1 : 0]},
                                  {mine.inputs[1], other[swapped ? 0 : 1]}};
      if (TakeFactor(mine, &inputs[1].second)) attempts.push_back(Try(std::move(inputs)));
    }
    if (attempts.empty()) {
      outcome->deviation.what = fmt::format("an input times {} is expected", mine.factor);
      return false;
    }
    const auto closest =
        std::max_element(attempts.begin(), attempts.end(), [](const Attempt& a, const Attempt& b) {
          return std::pair(a.matching, a.reach) < std::pair(b.matching, b.reach);
        });
    return Succeeds(std::move(*closest), outcome);
  }

  Attempt Try(std::vector<Pair> inputs) {
    Attempt attempt;
    for (const auto& [mine, other] : inputs) {
      const Outcome& outcome = Match(mine, other);
      if (outcome.matches) {
        ++attempt.matching;
        continue;
      }
      attempt.reach += outcome.reach;
      if (attempt.nearest == nullptr || outcome.reach < attempt.nearest->reach) {
        attempt.nearest = &outcome;
      }
    }
    attempt.inputs = std::move(inputs);
    return attempt;
  }

  static bool Succeeds(Attempt attempt, Outcome* outcome) {
    outcome->inputs = std::move(attempt.inputs);
    if (attempt.nearest == nullptr) return true;
    outcome->deviation = attempt.nearest->deviation;
    outcome->reach = attempt.nearest->reach + 1;
    return false;
  }

  // Our sum scales its second input; theirs has a product with a constant there.
  bool TakeFactor(const Node& mine, int* theirs) const {
    if (mine.op != Op::kAdd || mine.factor == 1) return true;
    const ForeignNode& product = theirs_.node(SkipTheirs(theirs_, *theirs));
    const HostTensor* constant = product.tensor("constant");
    if (product.op != ForeignOp::kMultiply || constant == nullptr || constant->numel() != 1) {
      return false;
    }
    constexpr double kRounding = 1e-6;
    const double factor = constant->ToFloat32().floats()[0];
    if (std::abs(factor - mine.factor) > kRounding * std::abs(mine.factor)) return false;
    *theirs = product.inputs[0];
    return true;
  }

  // "" if the two nodes, without their inputs, compute the same.
  std::string Compare(int ours, int theirs, Outcome* outcome) const {
    const Node& mine = ours_.node(ours);
    const ForeignNode& other = theirs_.node(theirs);
    switch (mine.op) {
      case Op::kInput:
        return Same(mine, other, ForeignOp::kInput, 0);
      case Op::kConv:
      case Op::kLinear:
        return CompareLayer(ours, other);
      case Op::kBatchNorm:
        if (IsLayer(other.op) && CanFold(mine)) {
          outcome->folded = true;
          return "";
        }
        return CompareBatchNorm(mine, other);
      case Op::kLayerNorm:
        return CompareLayerNorm(mine, other);
      case Op::kPRelu:
        return ComparePRelu(mine, other);
      case Op::kRelu:
        return Same(mine, other, ForeignOp::kRelu, 1);
      case Op::kRelu6:
        return CompareRelu6(mine, other);
      case Op::kSigmoid:
        return Same(mine, other, ForeignOp::kSigmoid, 1);
      case Op::kAdd:
        return Same(mine, other, ForeignOp::kAdd, 2);
      case Op::kMultiply:
        return Same(mine, other, ForeignOp::kMultiply, 2);
      case Op::kConcat:
      case Op::kSlice:
        return CompareChannels(mine, other);
      case Op::kMaxPool:
      case Op::kAveragePool:
        return ComparePool(mine, other);
      case Op::kGlobalAveragePool:
        return CompareGlobalPool(mine, other);
      default:
        return fmt::format("{} is not looked for in foreign networks", OpName(mine.op));
    }
  }

  static std::string Same(const Node& mine, const ForeignNode& other, ForeignOp expected,
                          std::size_t inputs) {
    if (other.op == expected && other.inputs.size() == inputs) return "";
    return fmt::format("{} is expected ({})", ForeignOpName(expected), OpName(mine.op));
  }

  // Another batch norm cannot have been folded through the activation between.
  bool CanFold(const Node& batch_norm) const {
    const Op before = ours_.node(SkipOurs(ours_, batch_norm.inputs[0])).op;
    return before == Op::kConv || before == Op::kLinear;
  }

  std::string CompareLayer(int ours, const ForeignNode& other) const {
    const Node& mine = ours_.node(ours);
    std::string difference = CompareWeight(mine, other);
    if (!difference.empty()) return difference;
    if (other.tensor("bias") == nullptr) return "";  // as if it were zero
    const int user = sole_user_[static_cast<std::size_t>(ours)];
    const bool makes_up = user >= 0 && ours_.node(user).op == Op::kBatchNorm;
    if (!mine.has_bias() && !makes_up) return "it has a bias";
    return VectorDifference(other, "bias", mine.weight().shape[0]);
  }

  std::string CompareWeight(const Node& mine, const ForeignNode& other) const {
    const std::vector<std::int64_t>& shape = mine.weight().shape;
    const bool is_conv = mine.op == Op::kConv;
    if (other.op == (is_conv ? ForeignOp::kConv : ForeignOp::kLinear) && other.inputs.size() == 1) {
      std::string window = is_conv ? WindowDifference(mine.window, other) : "";
      if (!window.empty()) return window;
      if (is_conv && mine.groups != other.groups) {
        return fmt::format("{} groups instead of {}", other.groups, mine.groups);
      }
      return TensorDifference(other, "weight", shape);
    }
    if (is_conv && other.op == ForeignOp::kLinear && IsPointwiseOnVector(mine)) {
      return TensorDifference(other, "weight", {shape[0], shape[1]});
    }
    if (!is_conv && other.op == ForeignOp::kConv) return CompareWholeConv(mine, other);
    return fmt::format("{} is expected",
                       ForeignOpName(is_conv ? ForeignOp::kConv : ForeignOp::kLinear));
  }

  // On [c, 1, 1] a convolution is a linear layer.
  bool IsPointwiseOnVector(const Node& conv) const {
    const std::vector<std::int64_t>& in = ours_.node(conv.inputs[0]).shape;
    constexpr std::array<std::int64_t, 2> kOne = {1, 1};
    return conv.groups == 1 && conv.window.kernel == kOne && in.size() == 3 && in[1] == 1 &&
           in[2] == 1;
  }

  // Our linear layer on a flattened [c, h, w], theirs a convolution of that size.
  std::string CompareWholeConv(const Node& mine, const ForeignNode& other) const {
    constexpr std::array<std::int64_t, 2> kNone = {0, 0};
    const std::vector<std::int64_t>& in = ours_.node(SkipOurs(ours_, mine.inputs[0])).shape;
    if (in.size() != 3 || other.groups != 1 || other.pad_begin != kNone || other.pad_end != kNone ||
        other.inputs.size() != 1) {
      return "Linear is expected";
    }
    return TensorDifference(other, "weight", {mine.weight().shape[0], in[0], in[1], in[2]});
  }

  std::string CompareBatchNorm(const Node& mine, const ForeignNode& other) const {
    std::string difference = Same(mine, other, ForeignOp::kBatchNorm, 1);
    for (const char* role : {"weight", "bias", "running_mean", "running_var"}) {
      if (difference.empty()) difference = VectorDifference(other, role, mine.weight().numel());
    }
    return difference;
  }

  std::string CompareLayerNorm(const Node& mine, const ForeignNode& other) const {
    std::string difference = Same(mine, other, ForeignOp::kLayerNorm, 1);
    for (const char* role : {"weight", "bias"}) {
      if (difference.empty()) difference = VectorDifference(other, role, mine.weight().numel());
    }
    constexpr double kRounding = 1e-3;
    if (difference.empty() && std::abs(other.epsilon - mine.epsilon) > kRounding * mine.epsilon) {
      difference = fmt::format("eps {} instead of {}", other.epsilon, mine.epsilon);
    }
    const auto last = static_cast<std::int64_t>(mine.shape.size());
    if (difference.empty() && other.axis != -1 && other.axis != last) {
      difference = fmt::format("axis {} instead of the last", other.axis);
    }
    return difference;
  }

  // One slope may stand for all channels.
  std::string ComparePRelu(const Node& mine, const ForeignNode& other) const {
    std::string difference = Same(mine, other, ForeignOp::kPRelu, 1);
    if (!difference.empty()) return difference;
    const HostTensor* slope = other.tensor("slope");
    if (slope != nullptr && slope->numel() == 1) return "";
    return VectorDifference(other, "slope", mine.weight().numel());
  }

  std::string CompareRelu6(const Node& mine, const ForeignNode& other) const {
    std::string difference = Same(mine, other, ForeignOp::kClip, 1);
    if (difference.empty() && (other.clip_min != 0 || other.clip_max != 6)) {
      difference = fmt::format("to [{}, {}] instead of [0, 6]", other.clip_min, other.clip_max);
    }
    return difference;
  }

  std::string CompareChannels(const Node& mine, const ForeignNode& other) const {
    const bool concat = mine.op == Op::kConcat;
    std::string difference =
        Same(mine, other, concat ? ForeignOp::kConcat : ForeignOp::kSlice, mine.inputs.size());
    if (!difference.empty()) return difference;
    const auto rank = static_cast<std::int64_t>(mine.shape.size());
    if (other.axis != 1 && other.axis != -rank) {
      return fmt::format("axis {} instead of the channels", other.axis);
    }
    return concat ? "" : CompareSlice(mine, other);
  }

  std::string CompareSlice(const Node& mine, const ForeignNode& other) const {
    const std::int64_t channels = ours_.node(mine.inputs[0]).shape[0];
    const auto place = [channels](std::int64_t at) {
      return std::clamp(at < 0 ? at + channels : at, std::int64_t{0}, channels);
    };
    std::int64_t begin = place(other.begin);
    std::int64_t end = place(other.end);
    if (other.parts > 0) {
      if (channels % other.parts != 0 || other.part >= other.parts) {
        return fmt::format("{} channels in {} parts", channels, other.parts);
      }
      begin = channels / other.parts * other.part;
      end = begin + channels / other.parts;
    }
    if (begin == mine.begin && end == mine.end) return "";
    return fmt::format("channels [{}, {}) instead of [{}, {})", begin, end, mine.begin, mine.end);
  }

  std::string ComparePool(const Node& mine, const ForeignNode& other) const {
    const bool max = mine.op == Op::kMaxPool;
    std::string difference =
        Same(mine, other, max ? ForeignOp::kMaxPool : ForeignOp::kAveragePool, 1);
    if (!difference.empty()) return difference;
    std::string window = WindowDifference(mine.window, other);
    if (!window.empty()) return window;
    if (mine.ceil_mode != other.ceil_mode && !CeilMakesNoDifference(mine)) {
      return mine.ceil_mode ? "parts of windows are left out" : "parts of windows count";
    }
    constexpr std::array<std::int64_t, 2> kNone = {0, 0};
    if (!max && mine.window.padding != kNone && mine.count_padding != other.count_padding) {
      return mine.count_padding ? "the padding does not count" : "the padding counts";
    }
    return "";
  }

  bool CeilMakesNoDifference(const Node& pool) const {
    const std::vector<std::int64_t>& in = ours_.node(pool.inputs[0]).shape;
    const Window& window = pool.window;
    for (std::size_t d = 0; d < 2; ++d) {
      const std::int64_t room = in[d + 1] + 2 * window.padding[d] - window.kernel[d];
      if (room % window.stride[d] != 0) return false;
    }
    return true;
  }

  // Theirs may be a pool whose window is the whole map.
  std::string CompareGlobalPool(const Node& mine, const ForeignNode& other) const {
    const std::vector<std::int64_t>& in = ours_.node(mine.inputs[0]).shape;
    constexpr std::array<std::int64_t, 2> kNone = {0, 0};
    if (other.op == ForeignOp::kAveragePool && other.inputs.size() == 1 && in.size() == 3 &&
        other.kernel == std::array<std::int64_t, 2>{in[1], in[2]} && other.pad_begin == kNone &&
        other.pad_end == kNone) {
      return "";
    }
    return Same(mine, other, ForeignOp::kGlobalAveragePool, 1);
  }

  // Writes down the pairs that matched. A node of ours that would be two of theirs is refused: its
  // one set of weights cannot be both.
  void Assign(int ours, int theirs) {
    ours = SkipOurs(ours_, ours);
    theirs = SkipTheirs(theirs_, theirs);
    const Outcome& outcome = outcomes_.at({ours, theirs});
    const auto index = static_cast<std::size_t>(ours);
    const int assigned = outcome.folded ? -1 : theirs;
    if (visited_.count(ours) != 0) {
      if (result_.theirs[index] == assigned && result_.folded[index] == outcome.folded) return;
      FailWith({ours, theirs, "it is two different nodes of theirs in different places"});
    }
    visited_.insert(ours);
    result_.theirs[index] = assigned;
    result_.folded[index] = outcome.folded;
    for (const auto& [mine, other] : outcome.inputs) Assign(mine, other);
  }

  const Graph& ours_;
  const ForeignGraph& theirs_;
  std::vector<int> use_counts_;
  std::vector<int> sole_user_;
  std::map<Pair, Outcome> outcomes_;
  std::set<int> visited_;
  StructureMatch result_;
};

}  // namespace

int SkipOurs(const Graph& ours, int index) {
  while (IsPassedOver(ours.node(index).op)) index = ours.node(index).inputs[0];
  return index;
}

StructureMatch MatchStructure(const Graph& ours, const ForeignGraph& theirs) {
  return Matcher(ours, theirs).Run();
}

}  // namespace fr
