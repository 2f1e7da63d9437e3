#include "common/networks/mobilenet.h"

#include <cstdint>
#include <string>

#include "common/networks/output.h"

namespace fr {
namespace {

constexpr double kMagnitude = 2;  // of MXNet's Xavier, as train_softmax.py has it
constexpr double kEpsilon = 1e-3;
constexpr double kOutputEpsilon = 2e-5;

struct Unit {
  std::int64_t out;
  std::int64_t stride;  // of its depthwise convolution
};

constexpr Unit kUnits[] = {{64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2}, {512, 1},
                           {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1}};

int Conv(GraphBuilder& b, const std::string& name, int x, const ConvSpec& spec) {
  x = b.Conv(name + ".conv2d", x, spec);
  x = b.BatchNorm(name + ".batchnorm", x, /*fixed_weight=*/true);
  return b.PRelu(name + ".relu", x);
}

}  // namespace

Graph MakeMobileNet(const NetworkOptions& options) {
  GraphBuilder b;
  b.set_conv_init({WeightInit::Kind::kUniformFanIn, kMagnitude});
  b.set_linear_init({WeightInit::Kind::kUniformFanIn, kMagnitude});
  b.set_batch_norm_epsilon(kEpsilon);
  int x = Conv(b, "conv_1", b.input(), {.out = 32, .kernel = {3, 3}, .padding = {1, 1}});
  int number = 2;
  for (const Unit& unit : kUnits) {
    b.BeginBlock();
    const std::string name = "conv_" + std::to_string(number++);
    const std::int64_t in = b.channels(x);
    x = Conv(b, name + "_dw", x,
             {.out = in, .kernel = {3, 3}, .stride = unit.stride, .padding = {1, 1}, .groups = in});
    x = Conv(b, name, x, {.out = unit.out});
  }
  b.set_batch_norm_epsilon(kOutputEpsilon);
  AddOutput(b, x, options.output.value(), options.embedding_size, options.dropout);
  return b.Finish();
}

}  // namespace fr
