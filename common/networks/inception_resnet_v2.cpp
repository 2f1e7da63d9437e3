#include "common/networks/inception_resnet_v2.h"

#include <cstdint>
#include <string>
#include <vector>

#include "common/networks/output.h"

namespace fr {
namespace {

constexpr double kEpsilon = 1e-3;
constexpr double kOutputEpsilon = 1e-5;
constexpr int kBlocks35 = 10;
constexpr int kBlocks17 = 20;
constexpr int kBlocks8 = 9;  // and one neither scaled nor with ReLU

ConvSpec Conv1x1(std::int64_t out) { return {.out = out}; }
ConvSpec Conv3x3(std::int64_t out) { return {.out = out, .kernel = {3, 3}, .padding = {1, 1}}; }
// Without padding: the map loses its border, and with stride 2 half its size.
ConvSpec Valid3x3(std::int64_t out, std::int64_t stride) {
  return {.out = out, .kernel = {3, 3}, .stride = stride};
}

// Writes timm's modules under timm's names.
class Writer {
 public:
  explicit Writer(GraphBuilder& builder) : b_(builder) {}

  int Conv(const std::string& name, int x, const ConvSpec& spec) {
    x = b_.BatchNorm(name + ".bn", b_.Conv(name + ".conv", x, spec));
    return b_.Relu(name + ".bn.act", x);
  }

  // Convolutions in a row: name.0, name.1, ...
  int Branch(const std::string& name, int x, const std::vector<ConvSpec>& specs) {
    for (std::size_t i = 0; i < specs.size(); ++i) {
      x = Conv(name + "." + std::to_string(i), x, specs[i]);
    }
    return x;
  }

  int MaxPool(const std::string& name, int x) {
    return b_.MaxPool(name, x, {.kernel = 3, .stride = 2});
  }

  // relu(x + scale conv1x1(the branches' outputs)).
  int Residual(const std::string& name, int x, const std::vector<int>& branches, double scale,
               bool relu) {
    int y = b_.Concat(name + ".concat", branches);
    y = b_.Conv(name + ".conv2d", y, {.out = b_.channels(x), .bias = true});
    x = b_.Add(name + ".add", x, y, scale);
    return relu ? b_.Relu(name + ".act", x) : x;
  }

  int Stem(int x) {
    x = Conv("conv2d_1a", x, Valid3x3(32, 2));
    x = Conv("conv2d_2a", x, Valid3x3(32, 1));
    x = Conv("conv2d_2b", x, Conv3x3(64));
    x = MaxPool("maxpool_3a", x);
    x = Conv("conv2d_3b", x, Conv1x1(80));
    x = Conv("conv2d_4a", x, Valid3x3(192, 1));
    return MaxPool("maxpool_5a", x);
  }

  int Mixed5b(const std::string& name, int x) {
    b_.BeginBlock();
    const int branch0 = Conv(name + ".branch0", x, Conv1x1(96));
    const int branch1 = Branch(name + ".branch1", x,
                               {Conv1x1(48), {.out = 64, .kernel = {5, 5}, .padding = {2, 2}}});
    const int branch2 = Branch(name + ".branch2", x, {Conv1x1(64), Conv3x3(96), Conv3x3(96)});
    int branch3 = b_.AveragePool(
        name + ".branch3.0", x,
        {.kernel = 3, .stride = 1, .padding = 1, .ceil_mode = false, .count_padding = false});
    branch3 = Conv(name + ".branch3.1", branch3, Conv1x1(64));
    return b_.Concat(name + ".concat", {branch0, branch1, branch2, branch3});
  }

  int Block35(const std::string& name, int x) {
    b_.BeginBlock();
    const int branch0 = Conv(name + ".branch0", x, Conv1x1(32));
    const int branch1 = Branch(name + ".branch1", x, {Conv1x1(32), Conv3x3(32)});
    const int branch2 = Branch(name + ".branch2", x, {Conv1x1(32), Conv3x3(48), Conv3x3(64)});
    return Residual(name, x, {branch0, branch1, branch2}, 0.17, true);
  }

  int Mixed6a(const std::string& name, int x) {
    b_.BeginBlock();
    const int branch0 = Conv(name + ".branch0", x, Valid3x3(384, 2));
    const int branch1 =
        Branch(name + ".branch1", x, {Conv1x1(256), Conv3x3(256), Valid3x3(384, 2)});
    const int branch2 = MaxPool(name + ".branch2", x);
    return b_.Concat(name + ".concat", {branch0, branch1, branch2});
  }

  int Block17(const std::string& name, int x) {
    b_.BeginBlock();
    const int branch0 = Conv(name + ".branch0", x, Conv1x1(192));
    const int branch1 = Branch(name + ".branch1", x,
                               {Conv1x1(128),
                                {.out = 160, .kernel = {1, 7}, .padding = {0, 3}},
                                {.out = 192, .kernel = {7, 1}, .padding = {3, 0}}});
    return Residual(name, x, {branch0, branch1}, 0.10, true);
  }

  int Mixed7a(const std::string& name, int x) {
    b_.BeginBlock();
    const int branch0 = Branch(name + ".branch0", x, {Conv1x1(256), Valid3x3(384, 2)});
    const int branch1 = Branch(name + ".branch1", x, {Conv1x1(256), Valid3x3(288, 2)});
    const int branch2 =
        Branch(name + ".branch2", x, {Conv1x1(256), Conv3x3(288), Valid3x3(320, 2)});
    const int branch3 = MaxPool(name + ".branch3", x);
    return b_.Concat(name + ".concat", {branch0, branch1, branch2, branch3});
  }

  int Block8(const std::string& name, int x, double scale, bool relu) {
    b_.BeginBlock();
    const int branch0 = Conv(name + ".branch0", x, Conv1x1(192));
    const int branch1 = Branch(name + ".branch1", x,
                               {Conv1x1(192),
                                {.out = 224, .kernel = {1, 3}, .padding = {0, 1}},
                                {.out = 256, .kernel = {3, 1}, .padding = {1, 0}}});
    return Residual(name, x, {branch0, branch1}, scale, relu);
  }

 private:
  GraphBuilder& b_;
};

}  // namespace

Graph MakeInceptionResnetV2(const NetworkOptions& options) {
  GraphBuilder b;
  b.set_batch_norm_epsilon(kEpsilon);
  Writer w(b);
  int x = w.Mixed5b("mixed_5b", w.Stem(b.input()));
  for (int i = 0; i < kBlocks35; ++i) x = w.Block35("repeat." + std::to_string(i), x);
  x = w.Mixed6a("mixed_6a", x);
  for (int i = 0; i < kBlocks17; ++i) x = w.Block17("repeat_1." + std::to_string(i), x);
  x = w.Mixed7a("mixed_7a", x);
  for (int i = 0; i < kBlocks8; ++i) x = w.Block8("repeat_2." + std::to_string(i), x, 0.20, true);
  x = w.Block8("block8", x, 1, false);
  b.BeginBlock();
  x = w.Conv("conv2d_7b", x, Conv1x1(1536));
  b.set_batch_norm_epsilon(kOutputEpsilon);
  AddOutput(b, x, options.output.value(), options.embedding_size, options.dropout, "output.");
  return b.Finish();
}

}  // namespace fr
